"""Make `stories.txt`, the bundled text of the tiny configs: small stories in English and Chinese from a fixed grammar.

    python configs/tiny/make_stories.py > configs/tiny/stories.txt

The same seed gives the same file. The stories say little, but they have what a model can learn: spelling, word order,
agreement of a name with its pronoun, and an ending that follows from the beginning.
"""

from __future__ import annotations

import random

ENGLISH = {
    "who": ["Anna", "Ben", "Clara", "David", "Emma", "Felix"],
    "animal": ["cat", "dog", "horse", "bird", "rabbit", "goat"],
    "place": ["by the river", "in the old garden", "behind the school", "on the hill", "near the station"],
    "weather": ["It was raining", "The sun was shining", "A cold wind blew", "Snow lay on the roofs"],
    "thing": ["a red ball", "a small lamp", "an old book", "a blue coat", "a basket of apples"],
    "feeling": ["happy", "tired", "hungry", "curious", "afraid"],
    "way": ["slowly", "quickly", "quietly", "at once", "without a word"],
}
CHINESE = {
    "who": ["小明", "小红", "阿福", "丽丽", "老王", "小雨"],
    "animal": ["猫", "狗", "马", "小鸟", "兔子", "山羊"],
    "place": ["在河边", "在老花园里", "在学校后面", "在山坡上", "在车站旁边"],
    "weather": ["天正下着雨", "太阳照着大地", "冷风吹过街道", "屋顶上落满了雪"],
    "thing": ["一个红色的球", "一盏小灯", "一本旧书", "一件蓝色的外套", "一篮苹果"],
    "feeling": ["高兴", "疲倦", "饥饿", "好奇", "害怕"],
    "way": ["慢慢地", "很快地", "悄悄地", "立刻", "一句话也没说就"],
}
PRONOUN = {"Anna": "she", "Ben": "he", "Clara": "she", "David": "he", "Emma": "she", "Felix": "he"}


def english(draw: random.Random) -> str:
    one, two = draw.sample(ENGLISH["who"], 2)
    pick = {key: draw.choice(values) for key, values in ENGLISH.items()}
    he = PRONOUN[one]
    middle = draw.choice([
        f"The {pick['animal']} looked at {two} and ran away {pick['way']}.",
        f"{two} asked {one} why {he} was {pick['feeling']}, and {he} told {two} everything.",
        f"{one} gave {pick['thing']} to {two}, who thanked {one} {pick['way']}.",
    ])  # fmt: skip
    end = draw.choice([
        f"In the evening {one} and {two} went home together.",
        f"The next morning the {pick['animal']} was still there.",
        f"Since that day {one} is never {pick['feeling']} any more.",
    ])  # fmt: skip
    return (
        f"{pick['weather']} when {one} found {pick['thing']} {pick['place']}. "
        f"{he.capitalize()} was {pick['feeling']} and called {two}. A {pick['animal']} came {pick['way']}. {middle} {end}"
    )


def chinese(draw: random.Random) -> str:
    one, two = draw.sample(CHINESE["who"], 2)
    pick = {key: draw.choice(values) for key, values in CHINESE.items()}
    middle = draw.choice([
        f"{pick['animal']}看了看{two}，{pick['way']}跑开了。",
        f"{two}问{one}为什么{pick['feeling']}，{one}把事情都说了。",
        f"{one}把{pick['thing']}送给了{two}，{two}{pick['way']}道了谢。",
    ])  # fmt: skip
    end = draw.choice([
        f"傍晚，{one}和{two}一起回家了。", f"第二天早上，{pick['animal']}还在那里。", f"从那天起，{one}再也不{pick['feeling']}了。",
    ])  # fmt: skip
    return (
        f"{pick['weather']}，{one}{pick['place']}找到了{pick['thing']}。{one}很{pick['feeling']}，就叫来了{two}。"
        f"一只{pick['animal']}{pick['way']}走了过来。{middle}{end}"
    )


def main() -> None:
    """Print the stories, a blank line between two."""
    draw = random.Random(20)
    stories = dict.fromkeys((english, chinese)[number % 2](draw) for number in range(400))
    print("\n\n".join(stories))


if __name__ == "__main__":
    main()
