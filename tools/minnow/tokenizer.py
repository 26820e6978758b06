"""Byte-level BPE for Minnow: training, encoding, tokenizer.json, and a check against the reference library.

The splitting rules are those of the large model (spec: prompt 1.3) and the special tokens carry the same names, so an
engine needs no second code path. Digits are never merged: one token each, which is what sums and codes want.

    tokenizer.py OUT/tokenizer.json [VOCAB]        train and write
    tokenizer.py --check OUT/tokenizer.json        compare with Hugging Face tokenizers on generated text
"""
import collections, json, random, sys

import regex

N_PATTERN = r"\p{N}{1,3}"
CJK_PATTERN = "[一-龥\u3040-ゟ゠-ヿ]+"
WORD_PATTERN = (r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
                r"|\s*[\r\n]+|\s+(?!\S)|\s+")
HEAD = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"]
TAIL = ["<｜fim▁hole｜>", "<｜fim▁begin｜>", "<｜fim▁end｜>", "<｜User｜>", "<｜Assistant｜>", "<|EOT|>", "<think>", "</think>", "｜DSML｜",
        "<｜latest_reminder｜>", "<｜action｜>", "<｜query｜>", "<｜authority｜>", "<｜domain｜>", "<｜task｜>", "<｜title｜>", "<｜read_url｜>"]
BYTES = {b: chr(b) for b in [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]}
BYTES.update({b: chr(0x100 + i) for i, b in enumerate(b for b in range(256) if b not in BYTES)})
_n, _cjk, _word = (regex.compile(p) for p in (f"({N_PATTERN})", f"({CJK_PATTERN})", WORD_PATTERN))


def pieces(text):
    for i, a in enumerate(_n.split(text)):
        if i % 2:
            yield a
        elif a:
            for j, b in enumerate(_cjk.split(a) if not a.isascii() else [a]):
                at = 0
                for m in _word.finditer(b):
                    if m.start() > at:
                        yield b[at:m.start()]
                    at = m.end()
                    yield m.group()
                if at < len(b):
                    yield b[at:]


class Tokenizer:
    def __init__(self, merges):
        self.merges = merges
        names = HEAD + [BYTES[b] for b in range(256)] + [a + b for a, b in merges] + TAIL
        self.names, self.ids = names, {n: i for i, n in enumerate(names)}
        assert len(self.ids) == len(names)
        self.rank = {m: i for i, m in enumerate(merges)}
        self.cache = {}
        self.special = regex.compile("(" + "|".join(map(regex.escape, HEAD + TAIL)) + ")")
        self.controls = {self.ids[n] for n in HEAD + TAIL}
        self.back = {c: b for b, c in BYTES.items()}

    @property
    def size(self):
        return len(self.names)

    def _piece(self, text):
        s = [BYTES[b] for b in text.encode()]
        while len(s) > 1:
            best = min(zip(s, s[1:]), key=lambda p: self.rank.get(p, 1 << 30))
            if best not in self.rank:
                break
            out, i = [], 0
            while i < len(s):
                if i + 1 < len(s) and (s[i], s[i + 1]) == best:
                    out.append(s[i] + s[i + 1])
                    i += 2
                else:
                    out.append(s[i])
                    i += 1
            s = out
        return [self.ids[x] for x in s]

    def encode(self, text):
        out, cache = [], self.cache
        for i, part in enumerate(self.special.split(text)):
            if i % 2:
                out.append(self.ids[part])
                continue
            for p in pieces(part):
                t = cache.get(p)
                if t is None:
                    t = self._piece(p)
                    if len(cache) < 200000:
                        cache[p] = t
                out += t
        return out

    def decode(self, ids):
        out = b""
        for i in ids:
            n = self.names[i]
            out += n.encode() if i in self.controls else bytes(self.back[c] for c in n)
        return out.decode(errors="replace")

    def save(self, path):
        added = lambda n, special: dict(id=self.ids[n], content=n, single_word=False, lstrip=False, rstrip=False, normalized=False, special=special)
        split = lambda p: {"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": False}
        byte = lambda prefix, trim, use: {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": trim, "use_regex": use}
        json.dump({
            "version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [added(n, True) for n in HEAD] + [added(n, False) for n in TAIL],
            "normalizer": {"type": "Sequence", "normalizers": []},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split(N_PATTERN), split(CJK_PATTERN), split(WORD_PATTERN), byte(False, True, False)]},
            "post_processor": byte(True, False, True), "decoder": byte(True, True, True),
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "vocab": {n: i for i, n in enumerate(self.names[:len(self.names) - len(TAIL)])},
                      "merges": [f"{a} {b}" for a, b in self.merges]}}, open(path, "w"), ensure_ascii=False, indent=0)

    @classmethod
    def load(cls, path):
        return cls([tuple(m.split(" ")) for m in json.load(open(path))["model"]["merges"]])


def corpus(seed=11, docs=5000):
    import data
    r = random.Random(seed)
    for _ in range(docs):
        yield "".join(t for t, _ in data.sample_doc(r, r.choice([300, 700, 900]))["segments"])


def train(size, texts):
    """Merge the most frequent adjacent pair until the vocabulary is full; ties go to the smaller pair, so it is deterministic."""
    special = regex.compile("|".join(map(regex.escape, HEAD + TAIL)))
    count = collections.Counter()
    for t in texts:
        for part in special.split(t):
            count.update(pieces(part))
    words = [([BYTES[b] for b in w.encode()], n) for w, n in count.items() if not w[0].isdigit()]
    pairs, where = collections.Counter(), collections.defaultdict(set)
    for i, (w, n) in enumerate(words):
        for p in zip(w, w[1:]):
            pairs[p] += n
            where[p].add(i)
    merges, known = [], set(BYTES.values())
    while len(merges) < size - 256 - len(HEAD) - len(TAIL) and pairs:
        best = max(pairs, key=lambda p: (pairs[p], p))
        if pairs[best] < 2:
            break
        joined = best[0] + best[1]
        if joined in known:  # the same string from another split would need a second id
            del pairs[best]
            continue
        known.add(joined)
        merges.append(best)
        for i in list(where[best]):
            w, n = words[i]
            for p in zip(w, w[1:]):
                pairs[p] -= n
            k = 0
            while k + 1 < len(w):
                if (w[k], w[k + 1]) == best:
                    w[k:k + 2] = [joined]
                k += 1
            for p in zip(w, w[1:]):
                pairs[p] += n
                where[p].add(i)
        pairs.pop(best, None)
    return Tokenizer(merges)


def check(path, docs=300):
    """Number of generated documents on which the reference library agrees; raises on the first difference."""
    from tokenizers import Tokenizer as Reference
    ref, own = Reference.from_file(path), Tokenizer.load(path)
    texts = list(corpus(seed=5, docs=docs)) + ["  foo \n\n x 1234567 \u4f60\u597d don't I'll\t<a_b>", "—dash é 日本語abc"]
    for t in texts:
        a, b = ref.encode(t, add_special_tokens=False).ids, own.encode(t)
        if a != b:
            k = next(i for i, (x, y) in enumerate(zip(a + [-1], b + [-1])) if x != y)
            raise ValueError(f"tokenizers differ at {k}: {[own.names[i] for i in a[k:k + 5]]} / {[own.names[i] for i in b[k:k + 5]]}")
    return len(texts)


if __name__ == "__main__":
    if sys.argv[1] == "--check":
        print("documents that agree:", check(sys.argv[2]))
    else:
        t = train(int(sys.argv[2]) if len(sys.argv) > 2 else 3072, corpus())
        t.save(sys.argv[1])
        print(t.size, "tokens")
