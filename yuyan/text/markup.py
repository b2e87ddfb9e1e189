"""Markup and furniture: tags of web pages, and lines that are not text but navigation, legal notices or cut-off teasers.

Careful by design: a tag is only removed from a document that is plainly a web page and only if HTML has a tag of that
name (`<unk>`, `<s>`, `a < b` and `<|endoftext|>` are text); a line is only dropped if as a whole it is one of the few
known kinds of furniture. Short lines as such are never dropped: they are poems and plays.
"""

from __future__ import annotations

import html
import re
from typing import NamedTuple

from yuyan.config import Config


class Markup(Config):
    """Removal of the tags of web pages."""

    tags: int = 4
    """A document with fewer known tags than this is not a web page and is left alone."""
    share: float = 0.02
    """Nor is one in which tags are a smaller share of the characters."""


class Lines(Config):
    """Removal of lines that are not text."""

    navigation: bool = True
    """Drop menus and links such as `Home | About | Contact` and 上一页 下一页."""
    notices: bool = True
    """Drop copyright and registration notices, cookie and script warnings."""
    cut: bool = True
    """Drop teasers that break off: `... [read more]`, …阅读全文."""
    broken: float = 0.1
    """Drop lines in which a larger share of the characters than this is unreadable (U+FFFD)."""


class DroppedLine(NamedTuple):
    """A line that was removed, and why."""

    reason: str
    line: str


_TAGS = (
    "a abbr address article aside b blockquote body br button caption center cite code col colgroup dd del details div "
    "dl dt em fieldset figcaption figure font footer form h1 h2 h3 h4 h5 h6 head header hr html i iframe img input ins "
    "label legend li link main meta nav noscript ol option p picture pre script section select small source span strong "
    "style sub summary sup svg table tbody td textarea tfoot th thead time title tr tt u ul video"
)
_TAG = re.compile(rf"</?(?:{'|'.join(_TAGS.split())})(?:\s[^<>]{{0,2000}})?/?>", re.IGNORECASE)
_HIDDEN = re.compile(r"<(script|style|noscript|svg|head)\b[^>]{0,2000}>", re.IGNORECASE)
_COMMENT = re.compile("<(!--)")
_DECLARATION = re.compile(r"<!doctype[^>]{0,500}>|<\?xml[^>]{0,500}>", re.IGNORECASE)
_ENDS = {
    name: re.compile("-->" if name == "!--" else rf"</{name}\s*>", re.IGNORECASE)
    for name in ("!--", "script", "style", "noscript", "svg", "head")
}
_BREAK = re.compile(
    r"</?(?:p|div|br|li|tr|h[1-6]|ul|ol|table|section|article|blockquote|pre|dt|dd|hr|title)\b[^<>]*>", re.IGNORECASE
)
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*){2,}")


def strip_markup(text: str, config: Markup) -> str:
    """`text` without HTML tags if it is a web page, with entities resolved; else `text` itself."""
    if "<" not in text or ">" not in text:
        return text
    tags = [match.end() - match.start() for match in _TAG.finditer(text)]
    if len(tags) < config.tags or sum(tags) < config.share * len(text):
        return text
    if "<!" in text or "<?" in text:
        text = _DECLARATION.sub("", _without(text, _COMMENT, ""))
    text = _without(text, _HIDDEN, " ")
    text = _TAG.sub("", _BREAK.sub("\n", text))
    return _BLANK_LINES.sub("\n\n", html.unescape(text)).strip()


def _without(text: str, begin: re.Pattern[str], instead: str) -> str:
    """`text` with `instead` for each stretch from `begin` to its end; a beginning without an end stays.

    One pass: an end that is missing behind one beginning is missing behind all later ones of that name.
    """
    pieces: list[str] = []
    missing: set[str] = set()
    done = at = 0
    while (found := begin.search(text, at)) is not None:
        name, at = found[1].lower(), found.start() + 1
        end = None if name in missing else _ENDS[name].search(text, found.end())
        if end is None:
            missing.add(name)
            continue
        pieces += [text[done : found.start()], instead]
        done = at = end.end()
    return "".join([*pieces, text[done:]])


# ---------------------------------------------------------------- lines

_MENU = (
    "home|about|about us|contact|contact us|login|log in|sign in|sign up|register|menu|search|sitemap|site map|help|faq|"
    "privacy|privacy policy|terms|terms of use|terms of service|subscribe|newsletter|next|previous|prev|back|top|"
    "back to top|share|tweet|print|email|facebook|twitter|instagram|youtube|rss|"
    "首页|主页|首頁|主頁|登录|登錄|登入|注册|註冊|导航|導航|返回|返回顶部|返回首页|上一页|下一页|上一頁|下一頁|上一篇|下一篇|上一章|下一章|目录|"
    "关于我们|關於我們|联系我们|聯繫我們|网站地图|设为首页|加入收藏|收藏|分享|打印|订阅|退出|搜索|更多|帮助|隐私政策"
)
_MENU_WORD = re.compile(rf"(?:{_MENU})", re.IGNORECASE)
_MENU_SPLIT = re.compile(r"\s*[|｜›»>＞·•/\[\]【】]+\s*|\s{2,}|\t|\u3000+")
_CHINESE_MENU = re.compile(
    r"(?:(?:首页|主页|登录|注册|上一页|下一页|上一篇|下一篇|上一章|下一章|返回首页|返回顶部|返回目录|设为首页|加入收藏|联系我们|关于我们)[\s|｜>]*){2,}"
)
_SITES = (
    "facebook|twitter|x|weibo|wechat|instagram|linkedin|pinterest|whatsapp|email|reddit|tumblr|telegram|youtube|tiktok"
)
_NOTICE = re.compile(
    r"(?:copyright\s*(?:©|\(c\)|(?:19|20)\d\d)|(?:©|\(c\))\s*(?:copyright|(?:19|20)\d\d)|版权所有|版權所有).{0,120}|"
    r".{0,80}\ball rights reserved\W*|"
    r".{0,40}[京沪粤浙苏川鄂湘闽皖鲁豫津渝]ICP[备证]\s*\d+.{0,30}|"
    r"(?:please )?(?:enable|turn on) javascript.{0,80}|(?:this|our|the) (?:web)?site uses? cookies.{0,120}|cookie policy|"
    rf"(?:share (?:this(?: (?:article|post|page|story|entry))?|on)|(?:follow|like|find) us on)[\s:|,/]*(?:(?:{_SITES}|and|&)[\s|,/]*)+\W*|"
    r"share this(?: (?:article|post|page|story|entry))?:|"
    r"click here (?:to|for) (?:view|read|download|see|subscribe|more|print|full|further).{0,60}|skip to (?:main )?content|"
    r"责任编辑[:：].{0,20}|(?:扫一扫|扫描二维码|微信扫码|长按二维码).{0,40}|(?:正在加载|加载中|loading)[.…]*|"
    r"(?:本文|文章)(?:来源|来自)[:：].{0,40}|未经(?:授权|许可|允许).{0,8}(?:不得|禁止|严禁)转载.{0,20}",
    re.IGNORECASE,
)
_CUT = re.compile(
    r".{0,400}(?:\.\.\.|…)\s*(?:[\[(（【]\s*(?:read more|continue reading|more|see more|full story|阅读全文|查看全文|展开全文|更多)\s*[\])）】]"
    r"|(?:read more|continue reading|阅读全文|查看全文|展开全文|点击查看更多|查看更多))\s*[»›>]*",
    re.IGNORECASE,
)
_HINTS = (
    "|", "｜", "›", "»", ">", "＞", "·", "•", "【", "  ", "\t", "\u3000", "首页", "主页", "上一", "下一", "返回", "设为", "联系我们",
    "copyright", "©", "(c)", "reserved", "版权所有", "版權所有", "icp备", "icp证", "javascript", "cookie", "us on", "share on",
    "share this", "click here", "skip to", "责任编辑", "二维码", "扫一扫", "微信扫码", "加载", "loading", "本文来", "文章来", "转载",
    "read more", "continue reading", "full story", "more]", "more)", "阅读全文", "查看全文", "展开全文", "查看更多", "更多]", "更多】",
    "更多)", "更多）", "\ufffd",
)  # fmt: skip
"""What every droppable line contains at least one of, in small letters: only such lines are looked at."""


def clean_lines(text: str, config: Lines) -> tuple[str, list[DroppedLine]]:
    """`text` without the lines that are furniture, and those lines. A text without any is returned identical."""
    dropped: list[DroppedLine] = []
    kept: list[str] = []
    done = 0
    for start, end in _suspects(text):
        line = text[start:end]
        reason = _why_drop(line.strip(), config)
        if reason is not None:
            dropped.append(DroppedLine(reason, line))
            kept.append(text[done:start])
            done = end + 1
    if not dropped:
        return text, []
    kept.append(text[done:])
    whole = "".join(kept)
    return (whole[:-1] if done > len(text) else whole), dropped


def _suspects(text: str) -> list[tuple[int, int]]:
    """Where the lines with a hint begin and end, in order."""
    lowered = text.lower()
    if len(lowered) != len(text):  # a few capital letters have small forms of two characters
        lowered = text
    found: dict[int, int] = {}
    for hint in _HINTS:
        at = lowered.find(hint)
        while at >= 0:
            start = text.rfind("\n", 0, at) + 1
            end = text.find("\n", at)
            found[start] = end = len(text) if end < 0 else end
            at = lowered.find(hint, end)
    return sorted(found.items())


def _why_drop(line: str, config: Lines) -> str | None:
    if not line:
        return None
    if line.count("\ufffd") > config.broken * len(line):
        return "unreadable"
    if len(line) > 500:
        return None
    if config.navigation and _is_menu(line):
        return "navigation"
    if config.notices and _NOTICE.fullmatch(line):
        return "notice"
    if config.cut and _CUT.fullmatch(line):
        return "cut off"
    return None


def _is_menu(line: str) -> bool:
    """Several short entries, of which at least two are words that only menus consist of."""
    if len(line) > 300:
        return False
    if _CHINESE_MENU.fullmatch(line):
        return True
    entries = [entry for entry in _MENU_SPLIT.split(line) if entry]
    if len(entries) < 3 or any(len(entry) > 24 for entry in entries):
        return False
    return sum(1 for entry in entries if _MENU_WORD.fullmatch(entry)) >= 2
