"""A suite that cannot fail is no test: one-line errors are planted in a copy of the package, and tests must notice.

    python tests/planted_errors.py            # all of them, some minutes
    python tests/planted_errors.py bos rotary # those whose names hold one of the words

`tests/test_planted_errors.py` checks that every error can still be planted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Planted(NamedTuple):
    """In `file` of the package, `right` becomes `wrong`; some test in `tests` must then fail."""

    name: str
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


RESUME, CUT = "laws/test_resume.py", "laws/test_cut.py"
STRATEGIES = "units/generate/test_strategies.py"
INTERRUPT, OPTIONS = "laws/test_interrupt.py", "journeys/test_bad_options.py"
POWER, STEP = "units/test_power_loss.py", "units/train/test_step.py"
PARITY = "parity/test_transformers.py"
FAMILIES, FOLDERS = "contracts/test_families.py", "contracts/test_folders.py"
FAST, PRODUCT = "units/generate/test_fast.py", "units/kernels/test_product.py"
LANES, DEVICE = "units/kernels/test_lanes.py", "laws/test_device.py"
ERRORS = [
    Planted("device: a batch stays where it was made", "train/learner.py", "moved(batch, device_of(self.model))", "batch", (DEVICE,)),
    Planted("device: labels stay behind", "evaluate/likelihood.py", "labels.flatten().to(hidden.device)", "labels.flatten()", (DEVICE,)),
    Planted("device: an optimizer's memory comes back to the processor", "train/state.py", "tensor.to(master.device) if tensor.ndim else tensor", "tensor", (DEVICE,)),
    Planted("device: all processes take the first GPU", "train/device.py", 'torch.device("cuda", local)', 'torch.device("cuda", 0)', (DEVICE,)),
    Planted("device: a GPU that is not there is done without", "train/device.py", 'wanted == "auto" and not', "not", (DEVICE,)),
    Planted("chart: an axis of rounding errors", "evaluate/scale.py", "high - low <= 1e-9 * max(abs(low), abs(high))", "high <= low", ("units/evaluate/test_chart.py",)),
    Planted("packed: a split row shares its slot", "generate/fast.py", "slot = self.slots.copy(slot)", "slot = slot", (FAST,)),
    Planted("packed: what is forgotten is still seen", "generate/fast.py", "self.slots.lengths[slot] -= feed.forget", "self.slots.lengths[slot] -= 0", (FAST,)),
    Planted("packed: gate and value change places", "generate/packed.py", "enumerate((gate, up))", "enumerate((up, gate))", (FAST,)),
    Planted("packed: window one too wide", "kernels/attention.py", "begin = 0 if window == 0 else max(0, seen - window)", "begin = 0 if window == 0 else max(0, seen - window - 1)", (FAST,)),
    Planted("packed: columns between two threads are left out", "kernels/pieces.py", "units * (piece + 1) // pieces * unit)", "(units * (piece + 1) // pieces - (piece + 1 < pieces)) * unit)", (FAST,)),
    Planted("packed: scales rounded down", "kernels/pack.py", "(scales + 0xFFFF) & ~0xFFFF", "scales & ~0xFFFF", (PRODUCT,)),
    Planted("packed: the sum that makes weights signed", "kernels/product.py", "-weight * total", "weight * total", (PRODUCT,)),
    Planted("looks are compiled too", "train/compile.py", "fast = self.block.training and torch.is_grad_enabled()", "fast = True", ("laws/test_compiled.py",)),
    Planted("compiled even where it is slower", "train/compile.py", "not measure or seconds * WORTH", "not measure or seconds", ("laws/test_compiled.py",)),
    Planted("more accuracy is called worse", "commands/compare.py", "(value > 0) == higher", "value < 0", ("units/commands/test_runs.py",)),
    Planted("packed: bfloat16 cut off instead of rounded", "kernels/lanes.py", "builder.add(builder.add(bits, code.words_of(0x7FFF)), odd)", "bits", (LANES,)),
    Planted("packed: a value wipes out its neighbour", "kernels/lanes.py", "kept = builder.not_(builder.shl(code.words_of(0xFFFF), by))", "kept = code.words_of(0)", (LANES, FAST)),
    Planted("packed: rows of others overwritten", "kernels/lanes.py", "_store_real(builder, line, here, real)", "_store_real(builder, line, here, None)", (LANES,)),
    Planted("masters are rounded with the weights", "train/precision.py", "                torch._foreach_copy_(self._working, self._masters)", "                torch._foreach_copy_(self._working, self._masters); torch._foreach_copy_(self._masters, self._working)", ("laws/test_bfloat16.py",)),
    Planted("modernbert: sees only what came before", "models/presets.py", "position=Rotary(), mask=Full(),", "position=Rotary(),", (PARITY,)),
    Planted("modernbert: the reach on every layer", "models/presets.py", "if i % 3)", "if i % 3 or True)", (PARITY,)),
    Planted("tanh cannot be saved", "hub/published.py", '    "silu": "silu",\n    "tanh": "tanh",\n', '    "silu": "silu",\n', (FAMILIES,)),
    Planted("a model's tokenizer is not taken with it", "commands/run.py", 'origin.get("model.kind") != COMMAND_LINE or', "True or", ("journeys/test_adapt_a_model.py",)),
    Planted("a tokenizer that is asked for is not taken", "commands/run.py", ' or origin.get("tokenizer.kind") == COMMAND_LINE', "", ("journeys/test_adapt_a_model.py",)),
    Planted("a gap after a space in Chinese", "commands/outcome.py", 'joint = "" if', 'joint = " " if', ("units/commands/test_outcome.py",)),
    Planted("a search's page translates keys", "evaluate/study.py", "measure, *keys]", "measure, *(word('trial', language) for _ in keys)]", ("units/commands/test_tune.py",)),
    Planted("mean of means", "train/step.py", "loss.total.sum().backward()", "(loss.total.sum() / loss.count.sum()).backward()", (CUT,)),
    Planted("a trial under way is forgotten", "commands/tune.py", "states=(TrialState.RUNNING,)", "states=(TrialState.WAITING,)", ("units/commands/test_tune.py",)),
    Planted("trials that fall behind go on", "commands/tune.py", "if fresh and trial.should_prune():", "if False:", ("units/commands/test_tune.py",)),
    Planted("lr: a second fall at rates too high is taken for the descent", "commands/rate.py", "int(level[0])", "int(level[-1])", ("units/commands/test_rate.py",)),
    Planted("gradients of the last micro-batch only", "train/precision.py", "master.grad += working.grad", "master.grad = working.grad.float()", (CUT, "units/train")),
    Planted("what a user writes ends the turn", "tasks/chat_template.py", "return [message._replace(content=self._broken(message.content, spare)) for message in messages], spare", "return list(messages), spare", ("units/tasks/test_chat_template.py",)),
    Planted("the end of an answer is not learned", "tasks/chat_template.py", "scored[i] = i <= last", "scored[i] = i < last", ("units/tasks/test_chat_template.py",)),
    Planted('earlier answers learned too', 'tasks/chat_template.py', 'learned = answers if learn == "all" else answers[-1:]', 'learned = answers', ("units/tasks/test_chat_template.py",)),
    Planted("packed dialogues see each other", "corpus/first_fit.py", "np.repeat(np.arange(len(row))", "np.repeat(np.zeros(len(row), int)", ("units/tasks/test_converse.py",)),
    Planted("the newest turns are left out", "tasks/chat.py", "rest = rest[2:]", "rest = rest[:-2]", ("units/tasks/test_converse.py",)),
    Planted('folds train on what they test', 'commands/folds.py', '{"train": [r for r, fold in zip(records, folds, strict=True) if fold != number]}', '{"train": list(records)}', ("journeys/test_folds_and_pseudo.py",)),
    Planted("pseudo-labels for texts that are known", "commands/pseudo.py", "if (key := key_of(record.text)) not in known:", "if (key := key_of(record.text)):", ("journeys/test_folds_and_pseudo.py",)),
    Planted("a search makes accuracy low", "commands/tune.py", "return 1 if less_is_better(_measure(place)) else -1", "return 1", ("units/commands/test_tune.py",)),
    Planted("a key that is twice in JSON", "text/json_records.py", "if len(found) < len(pairs):", "if False:", ("units/tasks/test_bad_records.py",)),
    Planted("optimizer forgotten", "train/state.py", "for key, tensor in memory.items() if key.startswith(prefix)", "for key, tensor in memory.items() if key.startswith(prefix) and key.endswith('step')", (RESUME,)),
    Planted("random state forgotten", "train/state.py", 'take_random_state(device, kind, mine)', "pass", (RESUME,)),
    Planted("data position off by one", "corpus/batch.py", 'self._consumed = int(state["rows"])', 'self._consumed = int(state["rows"]) + 1', (RESUME, "laws/test_order.py")),
    Planted("a companion that is trained needs nothing", "commands/fitting.py", "*(a + b for a, b in zip(alone, other, strict=True))", "*alone", ("units/train/test_room.py",)),
    Planted("the source is read as long as the target", "models/cost.py", "(query * target + key * source)", "(query * target + key * target)", ("units/models/test_network.py",)),
    Planted("two take over one dead lock", "store.py", "fcntl.flock(descriptor, fcntl.LOCK_EX)", "pass", ("units/test_store.py",)),
    Planted("manifest not checked", "store.py", "if (found := sha256(file)) != digest:", "if (found := sha256(file)) != digest and False:", ("units/test_store.py",)),
    Planted("causal mask off by one", "nn/mask.py", "return key <= query\n", "return key <= query + 1\n", ("units/nn/test_formulas.py",)),
    Planted("blocked mask off by one", "nn/attend.py", ".triu(1)", ".triu(2)", ("units/nn/test_attend.py",)),
    Planted("the loop's causal mask off by one", "nn/kernels.py", "max(0, hidden - n % queries)\n        row", "max(0, hidden - 1 - n % queries)\n        row", ("units/nn/test_attend.py",)),
    Planted("rotary sign", "nn/rotary.py", "(heads * cos).addcmul_(heads.roll(heads.shape[-1] // 2, -1), sin)", "(heads * cos).addcmul_(heads.roll(heads.shape[-1] // 2, -1), sin, value=-1)", ("units/nn/test_formulas.py", "units/nn/test_fast_paths.py")),
    Planted("no gradient for other rows of a bias", "nn/attend.py", "d_scores.sum(absent, keepdim=True, dtype=torch.float32) if absent", "d_scores[:1].float() if absent", ("units/nn/test_attend.py",)),
    Planted("keys of padding seen in blocks", "nn/attend.py", ".masked_fill_(~part, float(\"-inf\"))", ".masked_fill_(~part, 0.0)", ("units/nn/test_attend.py",)),
    Planted("fused product under autocast", "nn/linear.py", 'if torch.is_autocast_enabled("cpu"):', "if False:", ("units/nn/test_linear.py",)),
    Planted("fused activation of another kind", "nn/ffn.py", '"gelu_tanh": ("gelu", "tanh")', '"gelu_tanh": ("relu", "")', ("units/nn/test_linear.py",)),
    Planted("a span of the next type goes on", "metrics/spans.py", 'return before in "ES" or now in "BSO" or kind != type_', 'return before in "ES" or now in "BSO"', ("units/metrics/test_spans.py",)),
    Planted("what is read is learned too", "tasks/pairs.py", "np.arange(len(ids)) >= len(read)", "np.arange(len(ids)) >= 0", ("journeys/test_write_a_task.py",)),
    Planted("an answer never ends", "tasks/pairs.py", "else [*target, eos]", "else [*target]", ("journeys/test_write_a_task.py",)),
    Planted("parallel files of unequal length", "tasks/paired_text.py", "    if first is not None:\n        raise", "    if False:\n        raise", ("units/tasks/test_paired_text.py",)),
    Planted("source and target of files exchanged", "tasks/paired_text.py", "Aligned(side[first], side[second]", "Aligned(side[second], side[first]", ("units/tasks/test_paired_text.py",)),
    Planted("codes inside a segment read", "text/tmx.py", "and not self.codes:", "and True:", ("units/tasks/test_paired_text.py",)),
    Planted("Chinese summaries counted by words", "metrics/rouge.py", "_WORD.findall(text.lower())", "text.lower().split()", ("units/metrics/test_written.py",)),
    Planted("a common subsequence that is none", "metrics/rouge.py", "((row + matched) | (row - matched))", "(row + matched)", ("units/metrics/test_written.py",)),
    Planted("Chinese BLEU by words", "metrics/written.py", 'tokenize="zh" if chinese', 'tokenize="13a" if chinese', ("units/metrics/test_written.py",)),
    Planted("forbidden steps allowed", "tasks/tag.py", "np.where(allowed, 0.0, -np.inf)", "np.where(allowed, 0.0, 0.0)", ("units/tasks/test_tagged_text.py",)),
    Planted("rows in any order", "corpus/by_length.py", 'stretch[np.argsort(self.sizes[stretch], kind="stable")]', "stretch", ("units/tasks/test_classify.py",)),
    Planted("ties of AUROC count whole", "metrics/classify.py", "(below - groups_below / 2)", "below", ("units/metrics/test_classification_scores.py",)),
    Planted("an unknown label counts as right", "metrics/classify.py", "sorted({truth[0] for truth in truths} - set(labels))", "labels[:1]", ("units/metrics/test_classification_scores.py",)),
    Planted("an answer stands where the file says", "tasks/question_text.py", "said >= 0 and context.startswith(text, said)", "said >= 0", ("units/tasks/test_question_text.py",)),
    Planted("an id may be there twice", "tasks/question_text.py", "if (other := found.get(question.id)) is not None:", "if (other := None) is not None:", ("units/tasks/test_question_text.py",)),
    Planted("an answer may end before it begins", "tasks/context.py", "behind = np.lib.stride_tricks.sliding_window_view(np.append(stop, np.full(width - 1, -np.inf)), width)", "behind = np.lib.stride_tricks.sliding_window_view(np.append(np.full(1, -np.inf), np.append(stop, np.full(width - 1, -np.inf)))[:-1], width)", ("units/tasks/test_answer.py",)),
    Planted("windows that share nothing", "tasks/context.py", "start += room - shared", "start += room", ("units/tasks/test_answer.py",)),
    Planted("no answer is the best of the windows", "tasks/answer.py", "nulls[owner] = min(nulls[owner], scores[0].sum())", "nulls[owner] = scores[0].sum()", ("units/tasks/test_answer.py",)),
    Planted("answers in the question", "tasks/answer.py", "first = sum(map(len, parts[:3]))", "first = sum(map(len, parts[:1]))", ("units/tasks/test_answer.py",)),
    Planted("segments are not told", "tasks/base.py", 'return batch.get("token_type_ids") if network.config.embedding.type_vocab_size > 1 else None', "return None", ("units/tasks/test_answer.py",)),
    Planted("Chinese answers compared as bags", "metrics/answers.py", "SequenceMatcher(None, given, wanted, autojunk=False).find_longest_match().size", "(Counter(given) & Counter(wanted)).total()", ("units/metrics/test_answers.py",)),
    Planted("articles count", "metrics/answers.py", '_ARTICLES.sub(" ", text.lower().translate(_WITHOUT))', "text.lower().translate(_WITHOUT)", ("units/metrics/test_answers.py",)),
    Planted("silent where it knows", "metrics/answers.py", "np.cumsum((given - silent)[order])", "np.cumsum((silent - given)[order])", ("units/metrics/test_answers.py",)),
    Planted("the last mark of a pair in the first segment", "tokens/tokenizer.py", "(begin, 0), (end, 0), (end, 1)", "(begin, 0), (end, 0), (end, 0)", ("units/tasks/test_answer.py",)),
    Planted("blocks thaw from below", "train/optimizer/groups.py", "id(parameter): count - number for", "id(parameter): number + 1 for", ("units/train/test_layers_rates.py",)),
    Planted("wrong GELU", "nn/ffn.py", '"gelu": F.gelu,', '"gelu": gelu_tanh,', ("units/nn/test_formulas.py", PARITY)),
    Planted("norm on the wrong side", "nn/residual.py", "x + self.dropout(self.inner(self.norm(x), *args))", "self.norm(x) + self.dropout(self.inner(self.norm(x), *args))", ("units/nn/test_formulas.py",)),
    Planted("norms before and after swapped", "nn/residual.py", '{"pre": PreNorm, "post": PostNorm}', '{"pre": PostNorm, "post": PreNorm}', ("units/nn/test_formulas.py", PARITY)),
    Planted("RMSNorm takes the mean away", "nn/norm.py", "super().forward(x)", "super().forward(x - x.mean(-1, keepdim=True))", ("units/nn/test_formulas.py", PARITY)),
    Planted("one bucket of far distances too few", "nn/position.py", "(share * (buckets - near)).long()", "(share * (buckets - near - 1)).long()", ("units/nn/test_formulas.py", PARITY)),
    Planted("bucket count of every folder is 32", "hub/t5.py", 'c.take("relative_attention_num_buckets", int, 32)', 'c.take("relative_attention_num_buckets", int, 32) * 0 + 32', (FAMILIES,)),
    Planted("head untied in the gradient", "models/network.py", "self.embedding.token.weight, trained)", "self.embedding.token.weight.detach(), trained)", ("contracts/test_sides.py",)),
    Planted("head of its own read as tied", "hub/gpt2.py", "return LanguageModelHead(tied=tied)", "return LanguageModelHead(tied=True)", (PARITY,)),
    Planted("a copy that is none is taken", "hub/plan.py", "if not torch.equal(tensor, self.ours[original]):", "if False:", (FOLDERS,)),
    Planted("weights that are NaN are taken", "hub/plan.py", "if not bool(torch.isfinite(tensor).all()):", "if False:", (FOLDERS,)),
    Planted("links are followed", "hub/links.py", "if path.is_symlink() and not _is_blob(path):", "if False:", (FOLDERS,)),
    Planted("a link to any file of a snapshot's kind", "hub/links.py", 'return target.parent == model / "blobs" and target.is_file()', "return target.is_file()", (FOLDERS,)),
    Planted("one name twice in a header", "hub/tensors.py", "if len(found) < len(pairs):", "if False:", (FOLDERS,)),
    Planted("an index may leave the folder", "hub/tensors.py", r'if not re.fullmatch(r"[\w.-]+\.(safetensors|bin)", file):', "if False:", (FOLDERS,)),
    Planted("a tensor of no row is passed over", "hub/plan.py", "            self.unknown.append(name)\n            return\n        row, values", "            return\n        row, values", (FOLDERS,)),
    Planted("a setting nobody took is passed over", "hub/published.py", "        if left:\n", "        if False:\n", (FOLDERS,)),
    Planted("labels by both sides, text not moved", "models/network.py", "moved = F.pad(input_ids[:, :-1], (1, 0), value=head.start)", "moved = input_ids", ("units/models/test_network.py",)),
    Planted("the last token counted in the padding", "nn/head.py", "(places * real).argmax(1)", "places.expand_as(real).argmax(1)", ("units/models/test_network.py", PARITY)),
    Planted("what is no number becomes one", "nn/kernels.py", "nothing = x < np.float32(-87)", "nothing = not (x >= np.float32(-87))", ("units/nn/test_lstm.py",)),
    Planted("words cut off instead of rounded", "nn/kernels.py", "bits + np.uint32(np.uint32(0x7FFF) + odd)", "bits", ("units/nn/test_fast_paths.py",)),
    Planted("only the first part of the table's gradient grows", "nn/linear_cross_entropy.py", "add_words(total[start : start + ROWS], part)", "add_words(total[:ROWS], part[: len(total[:ROWS])])", ("units/nn/test_linear_cross_entropy.py",)),
    Planted("the gradient of a norm forgets the mean", "nn/kernels.py", "factor * (slope[v] - total - normed", "factor * (slope[v] - normed", ("units/nn/test_fast_paths.py",)),
    Planted("Muon: the model computes with its old matrices", "train/optimizer/muon.py", "torch._foreach_copy_([copies[p] for p in moved], moved)", "pass", ("units/train/test_optimizers.py",)),
    Planted("Muon: gradients of a sum are taken for those of a mean", "train/optimizer/muon.py", "self._step_group(group, scale)", "self._step_group(group, 1.0)", ("units/train/test_optimizers.py",)),
    Planted("the gradient of a gate forgets the gate's own slope", "nn/kernels.py", "share[v] * (ONE + number * (ONE - share[v]))", "share[v]", ("units/nn/test_fast_paths.py",)),
    Planted("a gate opens what it is multiplied with", "nn/ffn.py", "silu_times(self.gate_proj(x), self.up_proj(x))", "silu_times(self.up_proj(x), self.gate_proj(x))", ("units/nn/test_fast_paths.py", PARITY)),
    Planted("a row of the loss is left out by a thread", "nn/words.py", "bounds = [rows * i // threads for", "bounds = [(rows - 1) * i // threads for", ("units/nn/test_fast_paths.py",)),
    Planted("weights of tokens forgotten in the one pass", "nn/kernels.py", "scale = factor * (ONE +", "scale = (ONE +", ("units/nn/test_linear_cross_entropy.py",)),
    Planted("ignored labels scored", "nn/linear_cross_entropy.py", "None if scale is None and bool(scored.all()) else scored if scale is None else scored * scale", "scale", ("units/nn/test_linear_cross_entropy.py",)),
    Planted("smoothing without its share", "nn/linear_cross_entropy.py", "trained.label_smoothing / p.shape[1]", "trained.label_smoothing", ("units/nn/test_linear_cross_entropy.py",)),
    Planted("z-loss of another sum", "nn/linear_cross_entropy.py", "p *= 1 + 2 * trained.z_loss * log_sum", "p *= 1 + trained.z_loss * log_sum", ("units/nn/test_linear_cross_entropy.py",)),
    Planted("labels not shifted", "objectives/next_token.py", '"labels": item[1:]', '"labels": item[:-1]', ("units/objectives", "contracts/test_objectives.py")),
    Planted("bos scored", "evaluate/likelihood.py", "return [each[a + 1 : b] for a, b in pairwise(starts)]", "return [each[a:b] for a, b in pairwise(starts)]", ("units/evaluate", "laws/test_same_everywhere.py")),
    Planted("window scores a token twice", "evaluate/likelihood.py", "_Window(document, stop - context, stop, scored_from - (stop - context))", "_Window(document, stop - context, stop, scored_from - (stop - context) - 1)", ("units/evaluate",)),
    Planted("Kneser-Ney discount", "models/kneser_ney.py", "2 - 3 * y * n3 / n2", "2 - 2 * y * n3 / n2", ("units/models/test_ngram.py",)),
    Planted("top-p drops the token that reaches p", "generate/sampling.py", "before >= p", "before >= p - 0.2", ("units/generate/test_sampling.py",)),
    Planted("a pair counted from one side", "vectors/glove.py", "        if i != j:\n", "        if i != j and False:\n", ("units/vectors/test_glove.py",)),
    Planted("squares of gradients without the rate", "vectors/glove.py", "word_sum[d] = sum_w + slope_w * slope_w", "word_sum[d] = sum_w + slope_w / rate * slope_w / rate", ("units/vectors/test_glove.py",)),
    Planted("the bias of the word where the context's should be", "vectors/glove.py", "biases[i, 0] + biases[j, 2] - log", "biases[i, 0] + biases[j, 0] - log", ("units/vectors/test_glove.py",)),
    Planted("merged runs keep only the first count", "vectors/glove.py", 'np.add.reduceat(both["count"][order], begin)', 'both["count"][order][begin]', ("units/vectors/test_glove.py",)),
    Planted("subsampling forgotten", "vectors/skipgram.py", "< keep[word]", "< keep[word] + 1", ("units/vectors/test_descent.py",)),
    Planted("gradient of subwords divided", "vectors/skipgram.py", "began[d] = hidden[d] - began[d]", "began[d] = (hidden[d] - began[d]) / (high - low)", ("units/vectors/test_descent.py",)),
    Planted("the tree joins the lightest word with the next one always", "vectors/tree.py", "(node == len(made) or light[word] <= made[node])", "True", ("units/vectors/test_tree.py",)),
    Planted("both sides of a node are one", "vectors/tree.py", "node, 1 - side", "node, 1", ("units/vectors/test_tree.py",)),
    Planted("a path goes up, not down", "vectors/tree.py", "places = offsets[reached + 1] - up", "places = offsets[reached] + up - 1", ("units/vectors/test_tree.py",)),
    Planted("a turn to the second side counts as the first", "vectors/targets.py", "softplus(-score if wanted else score)", "softplus(-score)", ("units/vectors/test_tree.py",)),
    Planted("a step up the tree leaves the nodes where they are", "vectors/targets.py", "output[row, d] = old + step * hidden[d]", "output[row, d] = old", ("units/vectors/test_tree.py",)),
    Planted("a path ends one node too soon", "vectors/targets.py", "paths.offsets[word + 1] - paths.offsets[word]", "paths.offsets[word + 1] - paths.offsets[word] - 1", ("units/vectors/test_tree.py",)),
    Planted("a choice without its kind is not explained", "config.py", 'kind == "union_tag_not_found" and kinds', 'kind == "union_tag_not_found" and not kinds', ("units/test_config.py",)),
    Planted("rows of a text file not counted", "vectors/word2vec.py", "if header is not None and len(rows) != header.words:", "if header is not None and len(rows) > header.words:", ("units/vectors/test_word2vec_files.py",)),
    Planted("an analogy answers with its own words", "vectors/space.py", "return self.nearest(second - first + third, count, [a, b, c])", "return self.nearest(second - first + third, count, [a, b])", ("units/vectors/test_space.py",)),
    Planted("warm-up forgotten", "train/schedule.py", "return 1.0 if progress >= warmup else progress / warmup", "return 1.0", ("units/train/test_schedule.py",)),
    Planted("unknown keys allowed", "config.py", 'extra="forbid"', 'extra="ignore"', ("units/test_config.py",)),
    Planted("an import that points up", "nn/norm.py", "from yuyan.config import Config", "from yuyan.config import Config\nfrom yuyan.train import schedule as _up  # noqa: F401", ("test_layers.py",)),
    Planted("published without syncing the files", "store.py", "_sync_folder(file) if file.is_dir() else _sync_file(file)", "pass", (POWER,)),
    Planted("published without syncing the name", "store.py", "        temporary.rename(path)\n        _sync_folder(path.parent)", "        temporary.rename(path)", (POWER,)),
    Planted("written in place", "store.py", 'temporary = path.with_name(f"{path.name}{_TEMPORARY}{os.getpid()}")\n    with storage_errors(path):\n        try:\n            path.parent.mkdir(parents=True, exist_ok=True)\n            yield', 'temporary = path\n    with storage_errors(path):\n        try:\n            path.parent.mkdir(parents=True, exist_ok=True)\n            yield', ("units/test_store.py",)),
    Planted("old folder not put back", "store.py", "                old.rename(path)", "                pass", (POWER,)),
    Planted("lock of another process ignored", "store.py", "if holder is not None and _alive(holder, mine[\"host\"]):", "if False:", ("units/test_store.py",)),
    Planted("a cut line of the log is read", "store.py", 'split(b"\\n")[:-1]', 'split(b"\\n")', ("units/test_store.py",)),
    Planted("log not cut back", "commands/runlog.py", 'if record.get("step", math.inf) <= step', "if record", (RESUME,)),
    Planted("events after the cut stay", "commands/runlog.py", "events.begin(kept)", "events.begin(self.read() + kept)", ("units/commands/test_event_file.py",)),
    Planted("the checksum is not masked", "commands/event_file.py", "+ 0xA282EAD8", "+ 0xA282EAD9", ("units/commands/test_event_file.py",)),
    Planted("a tracker is told a step twice", "commands/track.py", 'or record["step"] <= self._known', "", ("units/commands/test_track.py",)),
    Planted("differences not paired", "metrics/interval.py", "- _ratio(drawn, *one)", "- _ratio(drawn[::-1], *one)", ("units/commands/test_runs.py",)),
    Planted("scores of other texts subtracted", "commands/compare.py", "one[1] is None or other[1] is None or one[1] != other[1]", "one[1] is None or other[1] is None", ("units/commands/test_runs.py",)),
    Planted("a cut model is a finished run", "commands/runs.py", "        verify(model, contents=contents)", "        pass", ("units/commands/test_runs.py",)),
    Planted("a keyword loses its dot", "commands/given.py", 'key.replace("__", ".")', "key", ("units/commands/test_python.py",)),
    Planted("patience forgotten", "commands/session.py", 'self.state.best["looks_since"] = self.state.best.get("looks_since", 0) + 1', "self.patience_lost = 1", (RESUME,)),
    Planted("a save that failed keeps the next from being written", "commands/session.py", "self._attempt(self.saver.finish if last or due else self.saver.check)", "pass", ("journeys/test_bad_input.py",)),
    Planted("weights put together for a look stay", "train/parallel.py", "                module.reshard()", "                pass", ("laws/test_processes.py",)),
    Planted("stopped without saving", "commands/session.py", "last = stopped or done or self._lost_patience()", "last = done or self._lost_patience()", (INTERRUPT,)),
    Planted("nohup is not respected", "commands/interrupt.py", " if signal.getsignal(n) != signal.SIG_IGN}", "}", (INTERRUPT,)),
    Planted("leftovers of a kill stay", "commands/train.py", "    remove_leftovers(folder)\n", "", (RESUME,)),
    Planted("edited text goes unnoticed", "commands/corpus.py", "if before.get((part, name)) != now.get((part, name))", "if (part, name) not in now", (OPTIONS,)),
    Planted("another config goes on", "commands/run.py", "if mine.get(key) != theirs.get(key)", "if key not in mine", (OPTIONS,)),
    Planted("a failed run leaves its folder", "commands/leaving.py", "if fresh and not _holds(folder, WORK):", "if False:", ("journeys/test_bad_input.py",)),
    Planted("weights not published", "train/precision.py", "torch._foreach_copy_(self._working, self._masters)", "pass", ("units/train/test_precision.py",)),
    Planted("embeddings decay", "models/cost.py", "if id(parameter) in tables:", "if False:", (STEP,)),
    Planted("the gates of a cell are one matrix", "train/optimizer/groups.py", "gates.get(id(p), 1)", "1", ("units/train/test_optimizers.py",)),
    Planted("Muon's step is not scaled by the shape", "train/optimizer/muon.py", "0.2 * math.sqrt(max(rows, columns))", "0.2 * math.sqrt(rows)", ("units/train/test_optimizers.py",)),
    Planted("the average forgotten", "train/state.py", "self.average.tensors = self._averaged(folder, memory)", "pass", (RESUME,)),
    Planted("a look leaves the average in the weights", "train/precision.py", "masters if kept is None else kept)", "working)", (RESUME, "units/train/test_average.py")),
    Planted("a penalty on norms and biases", "train/penalty.py", 'if group["part"] in DECAYED for', "for", ("units/train/test_average.py",)),
    Planted("a gradient that is not finite is taken", "train/step.py", "if math.isfinite(norm) and math.isfinite(loss_total):", "if True:", (STEP,)),
    Planted("the norm before the division", "train/step.py", "norm = state.weights.gradient_norm() / count", "norm = state.weights.gradient_norm()", (CUT, STEP)),
    Planted("gradients are clipped and not divided", "train/step.py", "(norm + TINY)) / count", "(norm + TINY))", (STEP,)),
    Planted("a row whose gradient has ended stands still", "train/kernels.py", "total += abs(mean[v]) + square[v]", "total += np.float32(0)", ("units/train/test_optimizers.py",)),
    Planted("a weight is not rounded into its copy", "train/kernels.py", "            c[v] = down(w[v])\n", "", ("units/train/test_optimizers.py",)),
    Planted("gradients that take PyTorch's way are not scaled", "train/precision.py", "torch._foreach_mul_(gradients, factor)", "pass", ("units/train/test_step.py", "units/train/test_precision.py")),
    Planted("dropped probabilities have a gradient", "nn/attend.py", "d_weights = ctx.drop.of(number, d_weights)", "pass", ("units/nn/test_attend.py",)),
    Planted("the softmax's gradient without what all shares have in common", "nn/kernels.py", "(slope[s] - along)", "slope[s]", ("units/nn/test_attend.py",)),
    Planted("padding counts as work", "commands/work.py", "lengths = mask.flatten(0, -2).sum(1)", "lengths = torch.full((mask.numel() // mask.shape[-1],), mask.shape[-1])", ("units/commands/test_work.py",)),
    Planted("a frozen companion counts with its gradients", "commands/work.py", "        return 1.0\n", "        return 3.0\n", ("units/commands/test_work.py",)),
    Planted("time between sessions counted", "train/step.py", "        self._last = self.clock()\n", "        self._last = self._last or 0.0\n", (STEP,)),
    Planted("padding is read", "nn/rows.py", "real = key < torch.tensor(ends, device=device)[:, None]", "real = key < span", (CUT,)),
    Planted("one seed for all requests", "generate/search.py", "torch.Generator().manual_seed(seed % 2**63)", "torch.Generator().manual_seed(0)", (CUT,)),
    Planted("a request too long by one", "generate/search.py", "elif self.left == 0:", "elif self.left < 0:", (CUT,)),
    Planted("guesses kept too often", "generate/search.py", "if uniform(generator) * float(given", "if 0.0 * uniform(generator) * float(given", (STRATEGIES,)),
    Planted("a wrong guess is redrawn from everything", "generate/search.py", "rest = (wanted - given).clamp(min=0)", "rest = wanted", (STRATEGIES,)),
    Planted("guesses are not forgotten", "nn/rows.py", "self.lengths = [length - count for length, count in zip(self.lengths, counts, strict=True)]", "pass", (STRATEGIES,)),
    Planted("groups do not know of each other", "generate/beam.py", "taken.update(self._advance(group, reads, taken))", "self._advance(group, reads, taken)", (STRATEGIES,)),
    Planted("no length penalty", "generate/beam.py", "return float(length**self.settings.length_penalty)", "return float(length)", (STRATEGIES,)),
    Planted("a stop string peeps out", "generate/stops.py", "hold = max(_overlap(text, stop) for stop in self._stops)", "hold = 0", ("units/generate/test_stops.py",)),
    Planted("bad words within tokens only", "generate/rules.py", "return [0, *(size for size in range(1, len(word)) if tail.endswith(word[:size]))]", "return [0]", ("units/generate/test_rules.py",)),
    Planted("a prefix too long", "generate/prefixes.py", "min(_common(kept, ids), len(ids) - 1)", "min(_common(kept, ids) + 1, len(ids) - 1)", ("units/generate/test_engine.py",)),
    Planted("another model passes for the same", "export/parity.py", "return bool(near and likely and", "return bool(True or", ("parity/test_export.py",)),
    Planted("an end mark within a grammar", "generate/grammar.py", "allowed[grammars.ends] = self.complete", "allowed[grammars.ends] = True", ("units/generate/test_grammar.py",)),
    Planted("an unknown token within a grammar", "generate/grammar.py", "*([] if special.unk is None else [special.unk])", "", ("units/generate/test_grammar.py",)),
    Planted("a grammar that gave up is taken for complete", "generate/grammar.py", "return not self._matcher.is_error() and bool(self._matcher.is_accepting())", "return bool(self._matcher.is_stopped() or self._matcher.is_accepting())", ("units/generate/test_grammar.py",)),
    Planted("a first token taken for a later one", "generate/grammar.py", "if self._grammars.two_tables and not self._begun else 0", "if False else 0", ("units/generate/test_grammar.py",)),
    Planted("forced text cut as it stands alone", "generate/grammar.py", '"no_forcing": true', '"no_forcing": false', ("units/generate/test_grammar.py",)),
    Planted("a cut text passed as valid", "generate/search.py", "valid = None if self.constraint is None else self.constraint.complete and stopped is None", "valid = None if self.constraint is None else True", ("units/generate/test_grammar.py",)),
    Planted("beams share a grammar", "generate/beam.py", "constraint = beginning.constraint.copy()", "constraint = beginning.constraint", ("units/generate/test_grammar.py",)),
    Planted("likelier texts before those that obey", "generate/search.py", "return self.done is not None and self.done.valid is False, -self.mean", "return False, -self.mean", ("units/generate/test_grammar.py",)),
    Planted("the window forgets too much", "generate/engine.py", "self.context * 3 // 4", "self.context // 2", ("units/generate/test_engine.py",)),
    Planted("characters for bytes", "commands/evaluate.py", "len(text.encode())", "len(text)", ("laws/test_same_everywhere.py",)),
    Planted("end mark not packed", "corpus/pack.py", "ids[(at + sizes - 1)[ends]] = self.eos", "pass", ("units/corpus",)),
    Planted("control tokens are dropped", "corpus/augment.py", "chosen = (random.random(len(ids)) < rate) & tokens.text[ids]", "chosen = random.random(len(ids)) < rate", ("units/corpus/test_augment.py",)),
    Planted("dropped tokens need not be said", "corpus/augment.py", 'if name.endswith("input_ids") else array', "if True else array", ("units/corpus/test_augment.py",)),
    Planted("weights rounded the same way each epoch", "corpus/weight.py", "np.floor(np.cumsum(weights[order]) + u)", "np.floor(np.cumsum(weights[order]))", ("units/corpus/test_weight.py",)),
    Planted("a source without scores is thought bad", "corpus/weight.py", "(total + prior * found[known].mean()) / (count + prior)", "total / (count + prior)", ("units/corpus/test_weight.py",)),
    Planted("the ring of another epoch", "corpus/pack.py", "order.rows[chosen] * self.length) % order.tokens", "order.rows[chosen] * self.length) % self.tokens", ("units/corpus/test_weight.py",)),
    Planted("dropout is drawn anew when a block is computed again", "train/recompute.py", "use_reentrant=False)", "use_reentrant=False, preserve_rng_state=False)", ("units/train/test_recompute.py",)),
    Planted("the group's memory limit is not looked at", "train/room.py", "(_of_system(meminfo), _of_group(group))", "(_of_system(meminfo),)", ("units/train/test_room.py",)),
    Planted("a neural n-gram sees its tokens in another order", "nn/feed_forward.py", "for back in range(newest + 1)]", "for back in reversed(range(newest + 1))]", ("units/nn/test_feed_forward.py",)),
    Planted("the last tokens of a neural n-gram are padding", "nn/feed_forward.py", "if order is None or real is None else real.sum(1)", "if True else None", ("contracts/test_sides.py",)),
    Planted("the weight of a mixture is that of the other", "evaluate/mixture.py", "> 0:\n            low = middle", "< 0:\n            low = middle", ("units/evaluate/test_mixture.py",)),
    Planted("recurrent weights dropped anew for each token", "nn/layered.py", "self._hx(state, layer), self.weights[layer], True, 1, 0.0, self.cell.training,\n", "self._hx(state, layer), self._thinned(self.weights[layer]), True, 1, 0.0, self.cell.training,\n", ("units/nn/test_layered.py",)),
    Planted("one mask for all texts of a batch", "nn/layered.py", "x.new_ones(x.shape[0], 1, x.shape[2])", "x.new_ones(1, 1, x.shape[2])", ("units/nn/test_layered.py",)),
    Planted("input weights dropped too", "nn/layered.py", "return [from_input, dropout", "return [dropout(from_input, self.drops.weights), dropout", ("units/nn/test_layered.py",)),
    Planted("the gradient drops other numbers", "nn/drop.py", "_Dropout.apply(d_out, ctx.rate, ctx.seed)", "_Dropout.apply(d_out, ctx.rate, ctx.seed + 1)", ("units/nn/test_drop.py",)),
    Planted("each row drops the same", "nn/kernels.py", "np.uint32(np.uint32(n) * np.uint32(len(given)))", "np.uint32(0)", ("units/nn/test_drop.py",)),
    Planted("dropout without its scale", "nn/kernels.py", "down(up(given[v]) * scale) if h >= limit", "given[v] if h >= limit", ("units/nn/test_drop.py",)),
    Planted("queries without a scale take whole steps", "train/optimizer/groups.py", "rates.layer_decay ** max(0, kind.depth - 1) * kind.scale", "rates.layer_decay ** max(0, kind.depth - 1)", ("units/train/test_layers_rates.py",)),
    Planted("draws without the correction for their proposal", "nn/sampled_softmax.py", ".float() + drawn.log_weight", ".float()", ("units/nn/test_sampled_softmax.py",)),
    Planted("the next class of an adaptive softmax", "nn/head.py", "self.bounds[1] + group - 1", "self.bounds[1] + group - 2", ("units/nn/test_adaptive_head.py",)),
    Planted("a class without its own share", "nn/head.py", "inside + first[..., self.bounds[1] + number, None]", "inside", ("units/nn/test_adaptive_head.py",)),
    Planted("the label is counted among the draws too", "nn/sampled_softmax.py", 'masked_fill(drawn.ids == wanted[:, None], float("-inf"))', 'masked_fill(drawn.ids == -1, float("-inf"))', ("units/nn/test_sampled_softmax.py",)),
    Planted("a carried state is forgotten when a run is saved", "train/state.py", "if self.carried is not None and self.carried.state is not None:", "if False:", (RESUME,)),
    Planted("a carried state is that of the first rows", "nn/cache.py", "first = self.seen % self.rows", "first = 0", ("units/train/test_carried_state.py",)),
    Planted("tracks overlap", "corpus/continued.py", "index % self.tracks * (len(self) // self.tracks)", "index % self.tracks", ("units/train/test_carried_state.py",)),
    Planted("LSTM: the gradient forgets the forget gate", "nn/kernels.py", "change[d] = whole[d] * gate[size + d] * keep", "change[d] = whole[d] * keep", ("units/nn/test_lstm.py",)),
    Planted("the same questions at no two looks", "evaluate/held_out.py", "np.random.Generator(generator(seed, 0, number, HELD_OUT))", "np.random.default_rng()", ("laws/test_every_objective.py",)),
    Planted("records in the same order each epoch", "corpus/records.py", "order = (epoch, permutation(len(self._items), self.seed, epoch, ROWS))", "order = (epoch, np.arange(len(self._items)))", ("units/corpus/test_records.py",)),
    Planted("a changed teacher goes on", "commands/companion.py", "if stored is not None and stored != sha256:", "if False:", ("laws/test_every_objective.py",)),
    Planted("the generator stays behind", "commands/companion.py", "if isinstance(trained, Pair) and not trained.frozen:", "if False:", ("laws/test_every_objective.py",)),
    Planted("the exact model is the rounded one", "commands/companion.py", "exact[name.removeprefix(self._prefix)].copy_(master)", "exact[name.removeprefix(self._prefix)].copy_(master.bfloat16())", (RESUME, "laws/test_same_everywhere.py")),
    Planted("processes: a gradient that is not summed", "train/parallel.py", "under_way = [dist.all_reduce(flat[part], async_op=True) for part in parts(flat.numel(), BUCKET)]", "under_way = []", ("laws/test_processes.py",)),
    Planted("processes: divided by its own count", "train/step.py", "count = int(summed)", "count = counts", ("laws/test_processes.py",)),
    Planted("documents of a row see each other", "nn/mask.py", "visible = same if visible is None else visible & same", "visible = same if visible is None else visible", ("laws/test_documents.py", "contracts/test_sides.py")),
    Planted("a gradient from the next document", "nn/kernels.py", "up(out[d]) + later_keep * up(later[d])", "up(out[d]) + up(later[d])", ("laws/test_documents.py",)),
    Planted("a document predicts the next", "objectives/next_token.py", "labels = np.where(documents[1:] == documents[:-1], ids[1:], IGNORE)", "labels = ids[1:]", ("laws/test_documents.py",)),
    Planted("a block that leaves out keys", "nn/attend.py", "first = min(reach.first[start:stop])", "first = max(reach.first[start:stop])", ("units/nn/test_attend.py",)),
    Planted("a state saved while steps are skipped", "commands/session.py", "if self.state.streak:", "if False:", ("laws/test_bad_steps.py",)),
    Planted("what batches leave is kept until the state is saved", "commands/session.py", "            self._give_back()\n", "", ("journeys/test_use_a_task.py",)),
    Planted("answering a file shows nothing", "commands/task_use.py", "            bar.advance(len(answers))\n", "", ("journeys/test_use_a_task.py",)),
    Planted("loss: gradients are made though nobody wants them", "nn/linear_cross_entropy.py", "if not torch.is_grad_enabled():", "if False:", ("units/nn/test_linear_cross_entropy.py",)),
    Planted("loss: the factor of a gradient is rounded", "nn/linear_cross_entropy.py", "g * float(scored[0])", "g * scored[0].to(g.dtype)", ("units/nn/test_linear_cross_entropy.py",)),
    Planted("precision: the norm of rounded gradients is rounded", "train/precision.py", "torch._foreach_norm(rounded, 2, torch.float32)", "torch._foreach_norm(rounded, 2)", ("units/train/test_precision.py",)),
    Planted("watch: spikes are compared with spikes after a resume", "commands/watch.py", 'if "spike" not in record)', "if record)", ("laws/test_bad_steps.py",)),
    Planted("batches: an order goes on with another batch", "corpus/batch.py", '!= mine["batch"]:', "is mine:", ("laws/test_order.py",)),
    Planted("fitting: each process takes what fits itself", "commands/fitting.py", "min(int(each) for each in world.gather(torch.tensor(fits)))", "fits", ("units/train/test_room.py",)),
    Planted("fitting: a network is built that does not fit", "commands/fitting.py", "LEAST_BYTES * count) > free", "LEAST_BYTES * count) < free", ("units/train/test_room.py",)),
    Planted("lr: the rest of Muon keeps its rate", "commands/rate.py", "optimizer.rest.lr * rate / optimizer.lr", "optimizer.rest.lr", ("units/commands/test_rate.py",)),
    Planted("lr: a rate is suggested that came too late", "commands/rate.py", "end - LAG", "end", ("units/commands/test_rate.py",)),
    Planted("tune: keys of another kind are drawn", "commands/search_space.py", "    except ConfigError:\n        return False", "    except ConfigError:\n        return True", ("units/commands/test_tune.py",)),
    Planted("tune: only the lower end of a range is checked", "commands/search_space.py", "values = (low, high, low + BETWEEN * (high - low))", "values = (low,)", ("units/commands/test_tune.py",)),
    Planted("config: a section without a kind is of any", "config.py", 'section = {"kind": _kind(type(default)), **section}', 'section = {"kind": _kind(models[-1]), **section}', ("units/test_config.py",)),
    Planted("folder: a decoder's tokenizer.json does not say its begin mark", "tasks/model_folder.py", "tokenizer.with_begin() if goes_on else tokenizer", "tokenizer", ("laws/test_same_everywhere.py",)),
    Planted("generate: the begin mark is put before every prompt", "tasks/writing.py", "else self.tokenizer.begin", "else mark", ("laws/test_same_everywhere.py",)),
    Planted("generate: a tiny temperature overflows", "generate/sampling.py", "(scores - scores.amax(-1, keepdim=True)) / temperature", "scores / temperature", ("units/generate/test_sampling.py",)),
    Planted("tag: nothing found is precision 1", "metrics/spans.py", "empty = float(not found and not there)", "empty = 1.0", ("units/metrics/test_spans.py",)),
    Planted("arpa: the begin mark is predicted everywhere", "models/arpa.py", "log_probs[bos] = -np.inf", "pass", ("units/models/test_arpa.py",)),
    Planted("session: a recurrent network forgets how its texts were cut", "commands/session.py", "config.task.too_long != \"error\"", "config.task.too_long == \"error\"", ("journeys/test_use_a_task.py",)),
    Planted("evaluate: text that tokens lose is not told", "commands/evaluate.py", "tokenizer.decode(ids) != text", "False", ("units/evaluate/test_document_likelihood.py",)),
    Planted("metrics: documents of other lengths are paired", "metrics/interval.py", " or not np.array_equal(a[1], b[1])", "", ("units/metrics/test_likelihood.py",)),
    Planted("dropout from the third reading on", "commands/recipe.py", "size.epochs - 5) / 50", "size.epochs - 3) / 50", ("journeys/test_auto.py",)),
    Planted("every network uses all threads", "commands/recipe.py", "max(0.0, self.operations - self.alone) * shared", "max(0.0, self.operations - self.alone)", ("journeys/test_auto.py",)),
    Planted("scores cost nothing in the choice of a size", "commands/recipe.py", " + 6 * vocabulary * width / SCORES", "", ("journeys/test_auto.py",)),
    Planted("looks by the clock where updates are asked for", "commands/session.py", "return self.state.seconds if self._every() is None else self.state.step", "return self.state.seconds if self.plan.steps is None else self.state.step", ("journeys/test_pace.py",)),
    Planted("a bad accuracy is the best look", "commands/runs.py", "value if less_is_better(measure) else -value", "value", ("units/commands/test_runs.py",)),
    Planted("a Mistral that does not say has no window", "hub/llama.py", 'if "sliding_window" not in c.data:', 'if "sliding_windows" in c.data:', ("parity/test_published.py",)),
    Planted("the activation of a T5 is said once", "hub/t5.py", 'c.activation("dense_act_fn", name)', 'ACTIVATION_NAMES[name]', ("parity/test_published.py",)),
    Planted("an adapter that took its part out of the base", "hub/peft.py", "is not None and init not in BASE_KEPT", "is not None and init in ()", ("parity/test_peft.py",)),
    Planted("hard negatives are left clean", "corpus/augment.py", '"positive", "negatives", "inputs"', '"positive", "inputs"', ("units/corpus/test_augment.py",)),
    Planted("a text of one's own is asked for again", "commands/ladder.py", "if any(source.is_relative_to(out) for", "if any(True for", ("units/commands/test_ladder.py",)),
]  # fmt: skip


def plant(error: Planted, package: Path) -> None:
    """Change the file in `package`. Raises ValueError if the right line is not there exactly once."""
    file = package / error.file
    text = file.read_text(encoding="utf-8")
    if text.count(error.right) != 1:
        raise ValueError(f"{error.name}: {error.file} holds {error.right!r} {text.count(error.right)} times, not once")
    file.write_text(text.replace(error.right, error.wrong), encoding="utf-8")


def copied(to: Path) -> None:
    """The project, without what was built."""
    for name in ("yuyan", "tests", "configs", "bench", "docs"):
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "README.zh.md"):
        shutil.copy(ROOT / name, to / name)


def failure(project: Path, tests: Iterable[str]) -> str:
    """What the first of the tests says that fails in a copy of the project; nothing if all pass."""
    there = [str(project / "tests" / name) for name in tests if (project / "tests" / name).exists()]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *there],
        cwd=project, env={**os.environ, "PYTHONPATH": str(project)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stdout + done.stderr)
    return done.stdout if done.returncode else ""


def caught(error: Planted) -> bool:
    """Whether a named test fails once the error is planted in a copy of the project."""
    with tempfile.TemporaryDirectory() as temporary:
        copied(Path(temporary))
        plant(error, Path(temporary) / "yuyan")
        return bool(failure(Path(temporary), error.tests))


def main() -> None:
    """Plant what was asked for, one after the other; exit 1 if one goes unnoticed."""
    chosen = [e for e in ERRORS if not sys.argv[1:] or any(word in e.name for word in sys.argv[1:])]
    if not chosen:
        sys.exit(f"none of the planted errors is called {' or '.join(sys.argv[1:])}")
    with tempfile.TemporaryDirectory() as temporary:
        copied(Path(temporary))
        if said := failure(Path(temporary), dict.fromkeys(name for error in chosen for name in error.tests)):
            sys.exit(f"{said}\na test fails already with nothing planted: mend that first")
    missed = []
    for error in chosen:
        found = caught(error)
        print(f"{'caught' if found else 'MISSED'}  {error.name}", flush=True)
        missed += [] if found else [error.name]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} caught")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
