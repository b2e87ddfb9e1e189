"""The words of a report in English and in Chinese, and what each rung of the ladder adds, in one sentence.

A page asks for a word by its key; a key that is not here is a mistake of ours and raises KeyError.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_INDEX = {"en": 0, "zh": 1}

WORDS: dict[str, tuple[str, str]] = {
    # the head of a page
    "ladder": ("The ladder", "语言模型阶梯"),
    "run": ("A training run", "训练记录"),
    "made": ("made", "生成于"),
    "command": ("Command", "命令"),
    "best": ("best", "最好"),
    "best_rung": ("Best rung", "最佳模型"),
    "bits_per_byte": ("Bits per byte", "每字节比特数"),
    "bits_short": ("bits/byte", "比特/字节"),
    "against_first": ("Against {name}", "与 {name} 相比"),
    "interval": ("95 % interval", "95% 区间"),
    "bounds": ("95 %: {bounds}", "95%：{bounds}"),
    "seconds_total": ("Time in all", "总用时"),
    "held_out": ("Held-out text", "留出文本"),
    # sections
    "result": ("Result", "结果"),
    "curves": ("Learning curves", "学习曲线"),
    "samples": ("Samples", "生成样例"),
    "data": ("Data", "数据"),
    "settings": ("Settings", "设置"),
    "next": ("What to try next", "接下来可以试试"),
    "environment": ("Environment", "运行环境"),
    "summary": ("Summary", "概要"),
    "measures": ("Measurements", "测量"),
    "contents": ("Contents", "目录"),
    # a picture of word vectors
    "space": ("The space of words", "词向量空间"),
    "words_drawn": ("Words drawn", "所画的词"),
    "of_words": ("of {count}", "共 {count} 个词"),
    "variance_drawn": ("Variance shown", "所示方差"),
    "explain_space": (
        "Each dot is a word, on the two directions in which these words differ most (principal components of vectors at length 1). "
        "Point at a dot to see its neighbours in the whole space: what the picture shows is only a part of it.",
        "每个点是一个词，位置取自这些词差异最大的两个方向（单位长度向量的主成分）。把指针移到点上可看到它在完整空间中的近邻：图中所示只是其中一部分。",
    ),
    "names_hidden": ("{count} names had no room; their dots tell them.", "有 {count} 个词名放不下，指向其点即可看到。"),
    # the table
    "rung": ("Rung", "模型"),
    "perplexity": ("Perplexity", "困惑度"),
    "perplexity_per": ("Perplexity per {unit}", "困惑度（每{unit}）"),
    "parameters": ("Parameters", "参数"),
    "tokens_seen": ("Tokens seen", "训练词元"),
    "epochs": ("Epochs", "遍数"),
    "seconds": ("Time", "用时"),
    "tokens_per_second": ("Tokens/s", "词元/秒"),
    "bytes_on_disk": ("On disk", "磁盘"),
    "stopped": ("Ended by", "停止原因"),
    "folder": ("Folder", "目录"),
    "kind": ("Kind", "类型"),
    "table": ("Table of all rungs", "各模型一览"),
    # explanations
    "explain_bits": (
        "Bits per byte: what the model needs, on average, to write down one byte of text that it has never seen. "
        "Lower is better, and tokenizers do not matter.",
        "每字节比特数：模型平均用多少比特写下一个没见过的字节。越低越好，与分词方式无关。",
    ),
    "explain_interval": (
        "The interval comes from drawing the held-out documents anew, with replacement: where the score would fall on other text of this kind.",
        "区间来自对留出文档的有放回重抽样：换一批同类文本，分数大致落在这里。",
    ),
    "explain_perplexity": (
        "Perplexity counts per token, so it compares only models with the same tokenizer.",
        "困惑度按词元计算，只能在同一分词器之间比较。",
    ),
    "explain_reference": (
        "Dashed lines are n-grams: they are counted once and have no curve.",
        "虚线是 n 元模型：一次数完，没有曲线。",
    ),
    # curves
    "validation_axis": ("Validation, bits per byte", "验证集，每字节比特数"),
    "training_axis": ("Training loss, nats per token", "训练损失，每词元奈特数"),
    "time_axis": ("training time", "训练时间"),
    "shaded": ("Shaded: the 95 % interval.", "阴影：95% 区间。"),
    "at_step": ("Update {step}", "第 {step} 步"),
    "step_axis": ("update", "更新步数"),
    "linear": ("Linear time", "线性时间"),
    "log": ("Logarithmic time", "对数时间"),
    "loss": ("Loss", "损失"),
    "validation": ("Validation", "验证"),
    "learning_rate": ("Learning rate", "学习率"),
    "gradient_norm": ("Gradient norm", "梯度范数"),
    "speed": ("Tokens per second", "每秒词元"),
    "step_seconds": ("Seconds of a step", "每步用时（秒）"),
    "waited": ("Seconds a step waited for data", "每步等待数据（秒）"),
    "mfu": ("Share of the processor's speed", "占处理器算力的比例"),
    "memory": ("Memory, bytes", "内存（字节）"),
    "no_curve": ("No curve was recorded.", "没有记录曲线。"),
    "no_rungs": ("No rung was measured.", "没有测量任何模型。"),
    "outside": ("Points outside {low} to {high}, not shown: {count}.", "有 {count} 个点在 {low} 到 {high} 之外，未画出。"),
    "broken": ("Values that are no finite numbers, left as gaps: {count}.", "有 {count} 个值不是有限数，留为空缺。"),
    # samples
    "no_prompt": ("no prompt", "无提示"),
    "prompt": ("Prompt: {prompt}", "提示：{prompt}"),
    "no_samples": ("No sample was recorded.", "没有记录样例。"),
    "empty": ("nothing", "空"),
    # data
    "sources": ("Sources", "来源"),
    "split": ("Split", "划分"),
    "documents": ("Documents", "文档"),
    "size": ("Size", "大小"),
    "train": ("train", "训练集"),
    "test": ("test", "测试集"),
    "step": ("Step", "步骤"),
    "kept": ("Kept", "保留"),
    "dropped": ("Dropped", "丢弃"),
    "share": ("Share", "比例"),
    "cleaning": ("What cleaning kept and dropped", "清洗：保留与丢弃"),
    "dropped_samples": ("Examples of what was dropped", "被丢弃文本举例"),
    "lengths": ("Length of a document, characters", "文档长度（字符）"),
    "documents_are": ("A document is", "文档的含义"),
    "split_by": ("Split", "划分方式"),
    "warnings": ("Warnings", "警告"),
    "of_documents": ("{count} documents", "{count} 篇文档"),
    "languages": ("Languages", "语言"),
    "language": ("Language", "语言"),
    "overlap": ("Overlap between the splits", "划分之间的重叠"),
    "tokenizer": ("Tokenizer", "分词器"),
    "p5": ("5 %", "5%"),
    "p50": ("median", "中位数"),
    "p95": ("95 %", "95%"),
    "max": ("longest", "最长"),
    # labels
    "confusion": ("Which label was taken for which", "混淆矩阵"),
    "explain_confusion": (
        "A row is a true label, a column the answer; the darker, the larger its share of the row.",
        "每行是真实标签，每列是模型的回答；颜色越深，占该行的比例越大。",
    ),
    "most_confused": ("Shown are the {count} labels in most mistakes.", "只画出错误最多的 {count} 个标签。"),
    # the choice of settings
    "rate_range": ("Learning-rate range", "学习率范围"),
    "suggestion": ("Suggested rate", "建议学习率"),
    "config_says": ("The config says", "配置中的值"),
    "explain_rate": (
        "The rate rises from step to step. Where the loss falls the rate does something; where it rises steps are too long. "
        "A good rate lies well before the lowest point.",
        "学习率逐步升高：损失下降处学习率起作用，回升处步子过大；合适的值在最低点之前。",
    ),
    "study": ("A search for settings", "超参数搜索"),
    "history": ("Trial by trial", "逐次试验"),
    "each_trial": ("each", "各次"),
    "best_so_far": ("best so far", "迄今最好"),
    "trial": ("trial", "试验"),
    "trials": ("Trials", "试验"),
    "trial_state": ("state", "状态"),
    "trial_complete": ("complete", "完成"),
    "trial_pruned": ("pruned", "提前停止"),
    "trial_fail": ("failed", "失败"),
    "trial_running": ("running", "进行中"),
    "trial_waiting": ("waiting", "等待"),
    "importance": ("What matters", "哪些设置重要"),
    "importance_axis": ("share explained", "解释的比例"),
    "explain_importance": (
        "How much of the differences between trials each key explains, from where the better ones lie (PED-ANOVA, Watanabe et al. 2023); with few trials, a rough guess.",
        "各键解释了多少试验间的差异，由较好试验的分布估计（PED-ANOVA, Watanabe 等 2023）；试验少时只是粗略估计。",
    ),
    "best_settings": ("The best config", "最佳配置"),
    # runs side by side
    "comparison": ("Runs side by side", "训练对比"),
    "different": ("What was set differently", "设置上的不同"),
    "tokens_axis": ("tokens seen", "训练词元"),
    "explain_looks": (
        "Curves are of looks on the way, at a part of the validation text; the table is of all of it.",
        "曲线来自训练途中对部分验证文本的测量；表格是对全部文本的测量。",
    ),
    "key": ("key", "键"),
    "came_out": ("what came out", "结果"),
    "was_different": ("what was different", "设置上的不同"),
    "validation_curve": ("validation{text}", "验证集{text}"),
    "text_number": (" (text {number})", "（文本 {number}）"),
    "training_loss": ("training loss", "训练损失"),
    "documents_counted": ("{count} documents", "{count} 篇文档"),
    "examples_counted": ("{count} examples", "{count} 个样本"),
    "no_certain_difference": ("{split}: no difference between A and {letter} is certain (paired over {over})", "{split}：A 与 {letter} 的差别不能确定（按 {over} 配对）"),
    "is_better": ("{split}: {letter} is better than A (paired over {over})", "{split}：{letter} 好于 A（按 {over} 配对）"),
    "is_worse": ("{split}: {letter} is worse than A (paired over {over})", "{split}：{letter} 差于 A（按 {over} 配对）"),
    "one_document": ("{split}: one document has no interval: whether {letter} differs from A is not known", "{split}：只有一篇文档，没有区间：{letter} 与 A 是否不同无从得知"),
    "no_each": ("{split}: no scores by document in {first} or {letter}: the difference has no interval", "{split}：{first} 或 {letter} 没有逐篇分数：差值没有区间"),
    "other_measures": ("{split}: {first} is measured in {one}, {letter} in {other}: not compared", "{split}：{first} 的指标是 {one}，{letter} 的是 {other}：不作比较"),
    "other_text": ("{split}: {letter} was measured on another text than {first}: not compared", "{split}：{letter} 与 {first} 测的不是同一文本：不作比较"),
    "other_questions": ("{split}: {letter} was asked other questions than {first} (tokenizer, train.context or seed): not compared", "{split}：{letter} 与 {first} 的题目不同（分词器、train.context 或种子）：不作比较"),
    "no_final_scores": ("{letter} is {state}: no final scores yet, only curves", "{letter} 的状态是 {state}：还没有最终分数，只有曲线"),
    "other_processors": ("the runs were made on different processors: times and speeds are not comparable", "各次训练用的处理器不同：用时和速度不可比"),
    # settings
    "budget": ("Budget", "预算"),
    "config": ("Settings of {name}", "{name} 的设置"),
    "config_of_run": ("All settings", "全部设置"),
    "updates": ("Updates", "更新"),
    "every": ("1 of every {count} updates is listed.", "每 {count} 次更新列出一次。"),
    "footer": (
        "Made by yuyan. This file is complete in itself: it loads nothing and sends nothing.",
        "由 yuyan 生成。本文件自成一体：不加载任何外部内容，也不发送任何数据。",
    ),
}  # fmt: skip

# What the fields of a report are called where they come with their own names.
NAMES: dict[str, str] = {
    "train": "训练集", "validation": "验证集", "test": "测试集", "kind": "类型", "vocab_size": "词表大小",
    "bytes_per_token": "每词元字节数", "token": "词元", "character": "字符", "char": "字符", "byte": "字节",
    "word": "词", "budget": "时间用完", "converged": "已收敛", "early": "提前停止", "steps": "步数已满",
    "counted": "计数完成", "python": "Python", "cpu": "处理器", "threads": "线程数", "system": "系统",
    "loss": "损失", "step": "步", "seconds": "用时", "bits_per_byte": "每字节比特数", "interval": "95% 区间",
    "perplexity": "困惑度", "tokens": "词元", "learning_rate": "学习率", "gradient_norm": "梯度范数",
    "tokens_per_second": "词元/秒", "parameters": "参数", "documents": "文档", "bytes": "字节", "epochs": "遍数",
    "best_step": "最好的一步", "skipped": "跳过的步", "updates": "更新步数", "spikes": "损失突增", "looks_seconds": "验证用时", "look_seconds": "验证用时",
    "validation_bits_per_byte": "验证集每字节比特数", "test_bits_per_byte": "测试集每字节比特数", "tokens_seen": "训练词元",
    "step_seconds": "每步用时", "waited": "等待数据", "memory": "内存", "mfu": "算力占比",
    "count": "计分数", "nats": "奈特", "spike": "突增", "processor": "处理器", "cores": "核数", "commit": "版本提交",
    "torch": "PyTorch", "yuyan": "yuyan", "validation_perplexity": "验证集困惑度", "test_perplexity": "测试集困惑度", "stopped": "停止原因", "language": "语言", "empty": "空文档", "encoding": "编码",
    "unicode": "统一码修复", "length": "长度", "symbols": "符号过多", "repetition": "重复过多", "boilerplate": "模板文字",
    "markup": "标记", "lines": "非正文行", "exact duplicates": "完全重复", "near duplicates": "近似重复", "exact": "完全重复", "near": "近似重复",
    "duplicates": "重复", "quality": "质量", "read": "读取", "normalise": "规范化", "yes": "是", "no": "否",
    "pairs": "对", "texts": "条", "examples": "样本", "pairs_seen": "训练对数", "texts_seen": "训练条数",
    "validation_interval": "验证集 95% 区间", "test_interval": "测试集 95% 区间",
}  # fmt: skip

ENGLISH: dict[str, str] = {
    "seconds": "time",
    "skipped": "skipped steps",
    "spikes": "loss spikes",
    "looks_seconds": "time to validate",
    "look_seconds": "time to validate",
    "mfu": "share of the processor's speed",
    "interval": "95 % interval",
    "cpu": "CPU",
}

SHARES = ("accuracy", "recall", "error_rate")
"""How the names of marks end that are shares, shown in per cent."""

# What a model that does not write text is measured by: in a table of a terminal, in a report, and in Chinese.
MEASURES: dict[str, tuple[str, str, str]] = {
    "next_token_loss": ("nats/token", "Next-token loss, nats a token", "下一词元损失（奈特/词元）"),
    "prefix_lm_loss": ("nats/token", "Answer loss, nats a token", "回答损失（奈特/词元）"),
    "masked_token_loss": ("nats/masked token", "Masked-token loss, nats a hidden token", "遮蔽词元损失（奈特/词元）"),
    "span_corruption_loss": ("nats/token", "Span loss, nats a token of the target", "片段还原损失（奈特/词元）"),
    "replaced_token_loss": (
        "loss, nats/token", "Replaced-token loss (generator and weighted verdicts), nats a token", "替换检测损失（生成器与加权判别，奈特/词元）",
    ),
    "contrastive_loss": ("nats/pair", "Contrastive loss, nats a pair", "对比损失（奈特/对）"),
    "ctc_loss": ("nats/text", "CTC loss, nats a text", "CTC 损失（奈特/条）"),
    "preference_loss": ("nats/pair", "Preference loss, nats a pair", "偏好损失（奈特/对）"),
    "accuracy": ("accuracy", "Accuracy", "准确率"),
    "replaced_recall": ("replaced found", "Replaced tokens found", "被替换词元的检出率"),
    "generator_perplexity": ("generator perplexity", "Perplexity of the generator", "生成器困惑度"),
    "f1_macro": ("F1 macro", "F1, mean over the labels", "宏平均 F1"),
    "f1_micro": ("F1 micro", "F1 over all labels", "微平均 F1"),
    "precision_macro": ("precision", "Precision, mean over the labels", "宏平均精确率"),
    "recall_macro": ("recall", "Recall, mean over the labels", "宏平均召回率"),
    "exact_accuracy": ("all labels right", "Texts with all labels right", "标签全对的比例"),
    "auroc": ("AUROC", "AUROC, each label against all others", "AUROC（各标签对其余）"),
    "outside_auroc": ("outside AUROC", "AUROC of texts outside of the labels", "范围外文本的 AUROC"),
    "calibration_error": ("calibration error", "Expected calibration error", "校准误差"),
    "span_f1": ("span F1", "F1 of spans", "片段 F1"),
    "span_precision": ("precision", "Precision of spans", "片段精确率"),
    "span_recall": ("recall", "Recall of spans", "片段召回率"),
    "word_accuracy": ("words right", "Words with the right tag", "词标签准确率"),
    "exact_match": ("exact match", "Answers that are right to the letter", "完全匹配率"),
    "chrf": ("chrF", "chrF, of 100", "chrF（满分 100）"),
    "bleu": ("BLEU", "BLEU, of 100", "BLEU（满分 100）"),
    "ter": ("TER", "TER, edits for 100 words of a reference (lower is better)", "TER（每百词编辑数，越低越好）"),
    "rouge1": ("ROUGE-1", "ROUGE-1, F of single words", "ROUGE-1（单词 F 值）"),
    "rouge2": ("ROUGE-2", "ROUGE-2, F of pairs of words", "ROUGE-2（词对 F 值）"),
    "rouge_l": ("ROUGE-L", "ROUGE-L, F of the longest common subsequence", "ROUGE-L（最长公共子序列 F 值）"),
    "answer_bits_per_byte": ("bits/byte of answers", "Bits per byte of the answers", "回答的每字节比特数"),
    "answer_perplexity": ("perplexity/token", "Perplexity of a token of the answers", "回答的词元困惑度"),
    "rewrite_loss": ("nats/token", "Loss, nats a token of the answer", "回答损失（奈特/词元）"),
    "summarise_loss": ("nats/token", "Loss, nats a token of the summary", "摘要损失（奈特/词元）"),
    "translate_loss": ("nats/token", "Loss, nats a token of the translation", "译文损失（奈特/词元）"),
    "answer_f1": ("answer F1", "F1 of answers", "答案 F1"),
    "has_answer_f1": ("F1, with an answer", "F1 where there is an answer", "有答案问题的 F1"),
    "has_answer_exact": ("exact, with an answer", "Exact match where there is an answer", "有答案问题的完全匹配"),
    "no_answer_accuracy": ("right, without one", "Questions without an answer that were seen", "无答案问题判断正确的比例"),
    "margin": ("margin", "Margin of the chosen answer, nats times beta", "优选回答的优势（奈特×β）"),
    "label_error_rate": ("label errors", "Label error rate", "标签错误率"),
    "perplexity": ("perplexity", "Perplexity", "困惑度"),
    "bits_per_byte": ("bits/byte", "Bits per byte", "每字节比特数"),
}  # fmt: skip

LANGUAGES: dict[str, tuple[str, str]] = {
    "en": ("English", "英语"), "zh": ("Chinese", "中文"), "ja": ("Japanese", "日语"), "ko": ("Korean", "韩语"),
    "fr": ("French", "法语"), "de": ("German", "德语"), "es": ("Spanish", "西班牙语"), "ru": ("Russian", "俄语"),
    "it": ("Italian", "意大利语"), "pt": ("Portuguese", "葡萄牙语"), "ar": ("Arabic", "阿拉伯语"), "la": ("Latin", "拉丁语"),
}  # fmt: skip

# (what a name must match, English, Chinese); names are compared without case, spaces and punctuation.
THEORY: tuple[tuple[str, str, str], ...] = (
    (
        "unigram|1gram",
        "Counts how often each token occurs and ignores what came before: the cost of a text whose order is lost.",
        "只数每个词元出现多少次，不看前文：这是丢掉词序之后的代价。",
    ),
    (
        "bigram|2gram",
        "Looks at one token before: order begins to count, and pairs that were never seen become the problem.",
        "看前面一个词元：词序开始起作用，没见过的搭配也成了难题。",
    ),
    (
        "trigram|3gram",
        "Looks at two tokens before: sharper where the context is known, emptier where it is not.",
        "看前面两个词元：见过的上下文预测更准，没见过的则更空。",
    ),
    (
        "(modified|interpolated)*(kneserney|kn|mkn)(order)?[2-9]?(gram)?",
        "Takes a discount off every count of a long context and hands it to the shorter ones, where a token weighs as "
        "much as the number of different neighbours it has had.",
        "从长上下文的每个计数里打一点折，省下的概率交给更短的上下文；在那里，一个词元的分量取决于它接过多少种不同的前文。",
    ),
    (
        "nplm|neural(ngram|probabilisticlanguagemodel)",
        "Learns a vector for each token and a layer over the last few of them: contexts never seen borrow from similar ones.",
        "为每个词元学一个向量，再在最近几个向量上加一层网络：没见过的上下文也能借用相似的上下文。",
    ),
    (
        "rnn",
        "Carries a state from token to token instead of a fixed window, as far as its gradients reach.",
        "不用固定窗口，而是把状态一个词元一个词元地传下去，梯度能传多远就记多远。",
    ),
    (
        "gru",
        "Two gates decide what the state keeps, so that the memory outlives a few tokens.",
        "用两个门决定状态保留什么，让记忆不止几个词元。",
    ),
    (
        "lstm",
        "Trades counts for vectors, so that similar contexts learn from each other, and a window for a gated memory that can last.",
        "用向量代替计数，相似的上下文互相借鉴；用带门的记忆代替固定窗口，可以记得更久。",
    ),
    (
        "gpt|transformer|llama",
        "Attention reads every earlier token of the window directly: distance costs nothing, and all positions learn at once.",
        "注意力直接读取窗口里每一个更早的词元：远近一样方便，所有位置同时学习。",
    ),
)


def language_of(data: Mapping[str, object]) -> str:
    """ "zh" where the report asks for Chinese, else "en"."""
    return "zh" if str(data.get("language") or "").lower().startswith("zh") else "en"


def word(key: str, language: str) -> str:
    """The word for `key`."""
    return WORDS[key][_INDEX[language]]


def name_of(key: object, language: str) -> str:
    """A field's own name, made readable: in Chinese where we know it, else with spaces for underscores."""
    text = str(key)
    split, _, measure = text.partition("_")
    if text in MEASURES and text not in ("perplexity", "bits_per_byte"):
        return MEASURES[text][1 + _INDEX[language]]
    if split in ("validation", "test") and measure in MEASURES:
        return f"{NAMES[split]}·{MEASURES[measure][2]}" if language == "zh" else f"{split}: {MEASURES[measure][1]}"
    if language == "zh":
        readable = text.replace("_", " ")
        return NAMES.get(text) or NAMES.get(readable) or readable
    return ENGLISH.get(text) or text.replace("_", " ")


def terminal_name(key: str) -> str:
    """A measure as the head of a column in a terminal."""
    return MEASURES[key][0] if key in MEASURES else key.replace("_", " ")


def less_is_better(measure: str) -> bool:
    """Whether less is better, of a measure that models are chosen by: of losses and bits; of all others more is."""
    return measure.endswith(("_loss", "bits_per_byte"))


def measure_name(key: str, language: str) -> str:
    """A measure as a report calls it, with its unit."""
    return MEASURES[key][1 + _INDEX[language]] if key in MEASURES else name_of(key, language)


def language_name(code: str, language: str) -> str:
    """What a language is called; its code where we have no name for it."""
    return LANGUAGES.get(code, (code, code))[_INDEX[language]]


def theory(name: object, language: str) -> str:
    """What the rung of this name adds to the one before; nothing for a name we do not know."""
    bare = re.sub(r"[^a-z0-9]", "", str(name).lower())
    return next((words[_INDEX[language]] for rule, *words in THEORY if re.fullmatch(rule, bare)), "")
