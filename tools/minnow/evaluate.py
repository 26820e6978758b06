"""Held-out scores and greedy samples.

A reply counts as exact when, reading the reference, the model's first choice is right at every token of it including the end
token: that is the same as greedy decoding giving exactly the reference, in one pass.

    evaluate.py FOLDER [--quick]        scores of a trained folder (config.json, tokenizer.json, safetensors)
    evaluate.py FOLDER --samples FILE   what it says to a few prompts, for the tests (tests/data/minnow/samples.json)
"""
import json, sys, time

import torch

import data
from template import END_THINK, EOS, render

WEATHER = {"name": "get_weather", "description": "Get the weather for a specific location", "parameters": {"type": "object", "properties": {
    "location": {"type": "string", "description": "The city name"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "description": "Temperature unit"}}, "required": ["location"]}}
LIST = {"name": "list", "description": "List the files in a directory", "parameters": {"type": "object", "properties": {"path": {"type": "string", "description": "The directory"}}, "required": ["path"]}}
READ = {"name": "read", "description": "Read a file", "parameters": {"type": "object", "properties": {"path": {"type": "string", "description": "The file to read"}}, "required": ["path"]}}


def pack(docs, encode):
    """(ids, position ranges of the scored turns) per document."""
    out = []
    for d in docs:
        ids, spans = [], []
        for text, w in d["segments"]:
            t = encode(text)
            if w >= 1:
                spans.append((len(ids), len(ids) + len(t)))
            ids += t
        out.append((ids, spans if d["skill"] == "tool" else spans[-1:]))
    return out


@torch.no_grad()
def exact(model, items, device, budget=16384, **kw):
    """Share of documents whose scored turns are all exact, and the share of right tokens in them."""
    items, right, good, tokens, i = sorted(items, key=lambda x: len(x[0])), 0, 0, 0, 0
    while i < len(items):
        j = i + 1
        while j < len(items) and (j + 1 - i) * len(items[j][0]) <= budget:
            j += 1
        part = items[i:j]
        s = max(len(x[0]) for x in part)
        ids = torch.tensor([x[0] + [2] * (s - len(x[0])) for x in part], device=device)
        best = model(ids, **kw).argmax(-1).cpu()
        for row, (t, spans) in zip(best, part):
            hit = [int(row[k - 1]) == t[k] for a, b in spans for k in range(a, b)]
            right += all(hit)
            good += sum(hit)
            tokens += len(hit)
        i = j
    return right / len(items), good / max(1, tokens)


@torch.no_grad()
def greedy(model, tok, prompts, device, limit=90, **kw):
    """Greedy continuations without a cache: short prompts, a few replies."""
    seqs, done, eos = [tok.encode(p) for p in prompts], [False] * len(prompts), tok.ids[EOS]
    start = [len(s) for s in seqs]
    for _ in range(limit):
        live = [i for i, d in enumerate(done) if not d]
        if not live:
            break
        s = max(len(seqs[i]) for i in live)
        ids = torch.tensor([seqs[i] + [2] * (s - len(seqs[i])) for i in live], device=device)
        z = model(ids, **kw)
        for row, i in enumerate(live):
            t = int(z[row, len(seqs[i]) - 1].argmax())
            seqs[i].append(t)
            done[i] = t == eos
    return [tok.decode(s[n:]) for s, n in zip(seqs, start)]


def sample_prompts():
    u = lambda t: {"role": "user", "content": t}
    sys = {"role": "system", "content": "You are a helpful assistant."}
    call = [(WEATHER["name"], {"location": "Oslo"})]
    text = lambda *a, **k: "".join(t for t, _ in render(*a, **k))
    return [text([u("Hello")]), text([sys, u("Who are you?")]), text([u("Tell me a story about a fox.")], thinking=True), text([u("What is 47 + 85?")], thinking=True),
            text([u("What is 47 + 85?")]), text([u("The code of the red door is 7391. Anna lives in Turin. What is the code of the red door?")]),
            text([u("My name is Viktor."), {"role": "assistant", "content": "Nice to meet you, Viktor!"}, u("What is my name?")], thinking=True),
            text([sys, u("What is the weather in Oslo?")], [WEATHER], True), text([sys, u("Which files are in src?")], [LIST, READ, WEATHER], False),
            text([sys, u("What is the weather in Oslo?"), {"role": "assistant", "content": "", "reasoning": "The user wants the weather in Oslo. I will use get_weather.", "calls": call},
                  {"role": "tool", "content": "cloudy, 7 degrees"}], [WEATHER], True), text([u("Sort the words: pear, apple, fox, bear")]), text([u("Do you like the sea?")])]


def report(model, tok, device, log, count=64, quick=False, until=None, kw=None):
    """Scores per skill; stops early when the clock passes `until`."""
    kw, out, t0 = kw or {}, {}, time.time()
    skills = data.eval_skills()
    if quick:
        skills = {k: skills[k] for k in ("identity/chat", "add 2 digits", "words copy", "recall 60", "recall 250", "recall 1000", "tool one", "tool parallel", "tool steps, think", "words sort",
                                    "words sortnum", "subtract 3", "told once", "recall 1000, think")}
        skills["codes 1000"] = data.long_skills(1000)["codes 1000"]
    plans = [(k, make, count, {}) for k, make in skills.items()]
    if not quick:
        for n, docs in ((4000, 24), (8000, 12)):
            plans += [(k, make, docs, {}) for k, make in data.long_skills(n).items()]
        plans += [(k + " (rounded cache)", make, docs, {"sim": True}) for n, docs in ((1000, 48), (4000, 24), (8000, 12), (16000, 12), (32000, 8)) for k, make in data.long_skills(n).items() if not k.startswith("told")]
    for name, make, n, extra in plans:
        if until and time.time() > until:
            log("evaluation stopped by the clock")
            break
        items = pack(data.eval_set(name, make, n), tok.encode)
        e, t = exact(model, items, device, **kw, **extra)
        out[name] = {"exact": round(e, 3), "tokens": round(t, 4), "n": n, "mean_length": sum(len(x[0]) for x in items) // n}
        if not quick:
            log(f"  {name:34s} exact {e:6.1%}  tokens {t:6.1%}  ({n} docs, mean {out[name]['mean_length']} tokens)")
    if quick:
        log("  quick: " + "  ".join(f"{k} {v['exact']:.0%}" for k, v in out.items()) + f"  ({time.time() - t0:.1f} s)")
    return out


def main(folder, *options):
    from model import load_folder
    from tokenizer import Tokenizer
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_folder(folder).to(device).eval()
    tok = Tokenizer.load(folder + "/tokenizer.json")
    if "--samples" in options:
        prompts = sample_prompts()
        said = [{"prompt": p, "reply": r} for p, r in zip(prompts, greedy(model, tok, prompts, device, 110, sim=True))]
        with open(options[options.index("--samples") + 1], "w") as f:
            json.dump(said, f, ensure_ascii=False, indent=1)
    else:
        report(model, tok, device, lambda line: print(line, flush=True), quick="--quick" in options)


if __name__ == "__main__":
    main(*sys.argv[1:])
