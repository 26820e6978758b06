"""Train Minnow in a fixed time and write a Hugging Face style folder.

    python3 tools/minnow/train.py --minutes 15 --out out          everything, start to finish, inside 15 minutes
    python3 tools/minnow/train.py --minutes 5 --from out --eager --phases 8192r:0.4,16384r:0.3,32768r:0.3 --lr 1.2e-3 --warmup 20 --out more
                                                                  longer texts, from the weights of an earlier run
    python3 tools/minnow/train.py --tiny --steps 30 --out out     a check of the plumbing on a CPU

Writes config.json, tokenizer.json, model*.safetensors (BF16), eval.json, log.txt. If anything fails on the way, what has been
learned so far is still written.
"""
import argparse, json, math, multiprocessing as mp, os, sys, time, traceback

START = time.time()
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import numpy as np
import torch

import checkpoint, data, evaluate, sinkhorn, tokenizer
from model import Config, Minnow, check_transformers
from optim import Optimiser


def arguments():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--minutes", type=float, default=15.0, help="wall time of the whole run, evaluation included")
    a.add_argument("--out", default="out", help="folder to write")
    a.add_argument("--phases", default="2048r:0.45,8192re:0.25,16384re:0.15,32768re:0.15",
                   help="length:share of the time; r = with rounded caches (spec: model section 6), e = not compiled")
    a.add_argument("--tokens", type=int, default=32768, help="tokens a step")
    a.add_argument("--lr", type=float, default=4e-3)
    a.add_argument("--decay", type=float, default=0.4, help="last share of the time in which the rate falls to zero")
    a.add_argument("--warmup", type=int, default=100)
    a.add_argument("--reserve", type=float, default=80, help="seconds kept for evaluation and writing")
    a.add_argument("--compile-budget", type=float, default=170, help="seconds of warming up after which later phases run uncompiled")
    a.add_argument("--vocab", type=int, default=2048)
    a.add_argument("--experts", type=int, default=4)
    a.add_argument("--ratios", default="0,0,4,128,4,128,4")
    a.add_argument("--index-topk", type=int, default=128)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--workers", type=int, default=8)
    a.add_argument("--eager", action="store_true", help="no torch.compile")
    a.add_argument("--f32", action="store_true", help="float32 activations")
    a.add_argument("--state", default="", help="where the float32 training state is kept (default OUT/state.pt)")
    a.add_argument("--resume", default="", help="continue from such a state")
    a.add_argument("--from", dest="start", default="", help="begin with the weights and the tokenizer of this folder; surplus experts are left out")
    a.add_argument("--quick", type=float, default=100, help="seconds between quick evaluations")
    a.add_argument("--steps", type=int, default=0, help="stop after so many steps")
    a.add_argument("--skip-check", action="store_true", help="no comparison with transformers and tokenizers")
    a.add_argument("--tiny", action="store_true", help="a very small model, for checks on a CPU")
    return a.parse_args()


# ---- data workers -----------------------------------------------------------------------------------------------------

def worker(index, seed, path, phase, lengths, tokens, queue):
    """Batches of the current phase; the stream of each worker and phase is fixed by the seed."""
    tok, made, rows = tokenizer.Tokenizer.load(path), -1, None
    while True:
        p = phase.value
        if p != made:
            made, rows = p, data.rows(f"{seed}/{index}/{p}", lengths[p], tok.encode)
        pairs = [next(rows) for _ in range(max(1, tokens // lengths[p]))]
        queue.put((p, np.array([i for i, _ in pairs], dtype=np.int16), np.array([w for _, w in pairs], dtype=np.float16)))


class Feed:
    def __init__(self, args, path, lengths):
        ctx = mp.get_context("fork")
        self.phase, self.lengths, self.turn = ctx.Value("i", 0), lengths, 0
        self.queues = [ctx.Queue(maxsize=4) for _ in range(args.workers)]
        self.procs = [ctx.Process(target=worker, args=(i, args.seed, path, self.phase, lengths, args.tokens, q), daemon=True) for i, q in enumerate(self.queues)]
        for p in self.procs:
            p.start()

    def next(self, device):
        while True:  # workers in turn, so that the order does not depend on their speed
            p, ids, w = self.queues[self.turn % len(self.queues)].get(timeout=120)
            self.turn += 1
            if p == self.phase.value:
                ids, w = (torch.from_numpy(x).to(device, non_blocking=True) for x in (ids, w))
                ids = ids.long()
                return ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), w[:, 1:].float().contiguous()

    def close(self):
        for p in self.procs:
            p.terminate()


# ---- training -----------------------------------------------------------------------------------------------------------

def step(model, batch, micro, sim, dtype):
    """Forward and backward over a batch in `micro` pieces; (values to log, expert shares per layer)."""
    ids, target, weight = batch
    pieces = [t.chunk(micro) for t in (ids, target, weight)]
    values, shares = 0, None
    for i, t, w in zip(*pieces):
        ce, index, said, right, draft, drafted, counts = model.loss(i, t, w, sim, dtype)
        ((ce + 0.1 * index + draft) / len(pieces[0])).backward()
        values = values + torch.stack([v.detach().to(ce.device).float() for v in (ce, torch.as_tensor(index), said, right, drafted)]) / len(pieces[0])
        shares = counts if shares is None else [a + b for a, b in zip(shares, counts)]
    return values, [s.detach() / len(pieces[0]) for s in shares]


def compile_blocks(model):
    import torch._dynamo as dynamo
    for name, v in (("recompile_limit", 64), ("cache_size_limit", 64), ("accumulated_recompile_limit", 512), ("suppress_errors", True)):
        if hasattr(dynamo.config, name):
            setattr(dynamo.config, name, v)

    def run(block, *a):
        return block(*a)

    def head(f, *a):
        return f(*a)
    model.compiled = torch.compile(run, dynamic=False), torch.compile(head, dynamic=False)
    model.plain = model.run_block, model.run_head


def use_compiled(model, yes):
    if hasattr(model, "compiled"):
        model.run_block, model.run_head = model.compiled if yes else model.plain


def starting_weights(folder, c):
    """State of a folder's checkpoint: the first c.experts experts of each layer, and no entry of another shape."""
    state = {k: v.long() if v.dtype == torch.int32 else v.float() for k, v in checkpoint.read_dir(folder).items()}
    for k, v in state.items():
        if k.endswith("tid2eid"):  # an expert left out is replaced by one that its token does not use yet
            kept = []
            for token, row in enumerate(v.tolist()):
                free = [e for e in range(c.experts) if e not in row]
                kept.append([e if e < c.experts else free.pop(token % len(free)) for e in row])
            state[k] = torch.tensor(kept)
        elif ".mlp.experts." in k or ".mlp.gate." in k:
            state[k] = v[:c.experts].clone()
    return state


def plain_copy(model, c, device, rounded):
    """An uncompiled copy, with the weights as they are stored, for evaluation."""
    own = Minnow(c).to(device)
    state = {k: v.detach() for k, v in model.state_dict().items()}
    own.load_state_dict({k: v.to(state[k].dtype) for k, v in checkpoint.shipped(state).items()} if rounded else state)
    own.normalise = model.normalise
    return own.eval()


def main():
    args = arguments()
    os.makedirs(args.out, exist_ok=True)
    log_file = open(os.path.join(args.out, "log.txt"), "w")

    def log(*a):
        line = f"[{time.time() - START:6.1f}] " + " ".join(map(str, a))
        print(line, flush=True)
        log_file.write(line + "\n")
        log_file.flush()

    device = "cuda" if torch.cuda.device_count() else "cpu"  # counts without starting CUDA, so that the workers can still fork
    if args.tiny:
        args.phases, args.tokens, args.workers, args.eager, args.reserve, args.warmup = "256:0.5,640r:0.5", 768, 1, True, 5, 5
    dtype = torch.float32 if args.f32 or device == "cpu" else torch.bfloat16
    phases = []
    for p in args.phases.split(","):
        n, share = p.split(":")
        phases.append((int(n.rstrip("re")), float(share), "r" in n, "e" in n))
    tok_path = os.path.join(args.out, "tokenizer.json")
    tok = tokenizer.Tokenizer.load(args.start + "/tokenizer.json") if args.start else tokenizer.train(args.vocab, tokenizer.corpus())
    tok.save(tok_path)
    log("tokenizer:", tok.size, "tokens")
    feed = Feed(args, tok_path, [n for n, *_ in phases])
    small = dict(hidden=64, inner=64, heads=2, head_dim=128, q_lora=64, o_groups=2, o_lora=32, index_heads=2, window=32, index_topk=48) if args.tiny else {}
    c = Config(**{**dict(vocab=tok.size, experts=args.experts, ratios=[int(r) for r in args.ratios.split(",")], index_topk=args.index_topk), **small})
    model = Minnow(c).initialise(args.seed)
    if args.start:
        state = starting_weights(args.start, c)
        own = model.state_dict()
        fit = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
        model.load_state_dict(fit, strict=False)
        log("began with", len(fit), "of", len(own), "tensors of", args.start)
    log("parameters:", sum(p.numel() for p in model.parameters()), "device:", torch.cuda.get_device_name() if device == "cuda" else "cpu", "torch", torch.__version__)
    if not args.skip_check:
        for what, f in (("tokenizers library, documents that agree:", lambda: tokenizer.check(tok_path, 100)), ("transformers, worst logit difference:", lambda: check_transformers(model))):
            try:
                log(what, f())
            except Exception as e:  # noqa: BLE001 - reported, not fatal
                log(what, "FAILED", type(e).__name__, str(e)[:300])
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
    model.to(device)
    model.normalise = sinkhorn.fused_or_plain(device, log)
    opt = Optimiser(model, args.lr)
    seen = 0
    if args.resume and os.path.exists(args.resume):
        s = torch.load(args.resume, map_location=device)
        model.load_state_dict(s["model"])
        opt.load(s["opt"])
        seen = s["seen"]
        log("resumed after", seen, "tokens")
    if not args.eager and device == "cuda":
        compile_blocks(model)
    kept = {k: v.detach().clone() for k, v in model.state_dict().items()}  # last state known to be good
    micro = [1] * len(phases)
    n_steps, history = 0, []
    try:
        seen, n_steps = train(args, model, opt, feed, phases, micro, dtype, device, log, kept, seen, history, tok, c)
    except BaseException as e:  # noqa: BLE001 - keep what was learned
        log("training stopped:", type(e).__name__, str(e)[:500])
        log(traceback.format_exc()[-1500:])
        if not all(torch.isfinite(p).all() for p in model.parameters()):
            model.load_state_dict(kept)
    feed.close()
    names = checkpoint.save(args.out, model.state_dict(), c.to_hf())
    log("written:", " ".join(names))
    try:
        torch.save({"model": model.state_dict(), "opt": opt.state(), "seen": seen}, args.state or os.path.join(args.out, "state.pt"))
        own = plain_copy(model, c, device, True)
        log("samples:")
        prompts = evaluate.sample_prompts()
        for p, r in zip(prompts, evaluate.greedy(own, tok, prompts, device, 3 if args.tiny else 110)):
            log("  ..." + json.dumps(p[-70:], ensure_ascii=False), "->", json.dumps(r, ensure_ascii=False))
        scores = evaluate.report(own, tok, device, log, 4 if args.tiny else 64, args.tiny, START + args.minutes * 60 - 12)
        json.dump({"scores": scores, "tokens_seen": seen, "history": history}, open(os.path.join(args.out, "eval.json"), "w"), indent=1)
        if not args.skip_check and time.time() < START + args.minutes * 60 - 10:
            log("transformers with the trained weights:", check_transformers(own.cpu(), (5, 900)))
    except Exception as e:  # noqa: BLE001
        log("evaluation failed:", type(e).__name__, str(e)[:300], traceback.format_exc()[-800:])
    log("done")


def train(args, model, opt, feed, phases, micro, dtype, device, log, kept, seen, history, tok, c):
    def once(batch, p):
        while True:
            try:
                use_compiled(model, not phases[p][3])
                return step(model, batch, micro[p], phases[p][2], dtype)
            except RuntimeError as e:  # out of memory: smaller pieces
                if "out of memory" not in str(e).lower() or micro[p] >= batch[0].shape[0]:
                    raise
                opt.zero()
                micro[p] *= 2
                torch.cuda.empty_cache()
                log("out of memory: now", micro[p], "pieces a step")

    if device == "cuda":  # build every phase's kernels before the clock of the schedule starts
        t0, compiled = time.time(), set()
        for p, (n, _, sim, eager) in enumerate(phases):
            if not eager and (n, sim) not in compiled and time.time() - t0 > args.compile_budget:
                log(f"warm-up took too long: phase {p} runs uncompiled")
                phases[p] = (n, phases[p][1], sim, True)
            elif not eager:
                compiled.add((n, sim))
            t1 = time.time()
            ids = torch.randint(0, c.vocab, (max(1, args.tokens // n), n), device=device)
            once((ids, ids, torch.ones_like(ids, dtype=torch.float32)), p)
            opt.zero()
            torch.cuda.synchronize()
            log(f"phase {p} (length {n}) ready in {time.time() - t1:.1f} s, memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
            torch.cuda.reset_peak_memory_stats()
    begin, end = time.time(), START + args.minutes * 60 - args.reserve
    shares = np.cumsum([p[1] for p in phases])
    shares = shares / shares[-1]
    n, phase, mark, mark_seen, quick, rate = 0, 0, time.time(), seen, time.time(), 1.0
    while True:
        now = time.time()
        progress = n / args.steps if args.steps else (now - begin) / max(1.0, end - begin)
        if progress >= 1:
            return seen, n
        want = int(np.searchsorted(shares, progress, side="right"))
        if want != phase:
            phase = want
            feed.phase.value = phase
            log("phase", phase, "length", phases[phase][0])
        values, counts = once(feed.next(device), phase)
        scale = min(1.0, (n + 1) / args.warmup) * min(1.0, max(0.01, (1 - progress) / args.decay) if args.decay else 1.0)
        norm = opt.step(scale * rate)
        opt.zero()
        with torch.no_grad():
            for block, share in zip(model.routers(), counts):
                if not block.mlp.hashed:
                    block.mlp.gate.e_score_correction_bias += 1e-3 * min(1.0, scale * 2) * torch.sign(share.mean() - share)
        n += 1
        seen += args.tokens // phases[phase][0] * phases[phase][0]
        if n % (5 if args.tiny else 50) == 0 or n == 1:
            v = values.tolist()
            dt = time.time() - mark
            worst = max(float((s.max() / s.mean())) for b, s in zip(model.routers(), counts) if not b.mlp.hashed)
            log(f"step {n} {progress:5.1%} loss {v[0]:.3f} said {v[2]:.3f} right {v[3]:.1%} drafted {v[4]:.1%} index {v[1]:.3f} norm {float(norm):.2f} busiest expert x{worst:.2f} {(seen - mark_seen) / dt / 1e3:.0f}k tok/s")
            history.append([n, seen, round(v[0], 4), round(v[2], 4), round(v[1], 4), round(v[4], 4)])
            mark, mark_seen = time.time(), seen
            if not math.isfinite(v[0]):
                rate *= 0.5
                log("not finite: back to the last good state, rate halved")
                model.load_state_dict(kept)
                for b in opt.buffers.values():
                    b.zero_()
                for _, m, s, _, _ in opt.adam:
                    m.zero_()
                    s.zero_()
            elif n % 250 == 0:
                for k, t in model.state_dict().items():
                    kept[k].copy_(t)
        if not args.tiny and time.time() - quick > args.quick and end - time.time() > 40:
            evaluate.report(plain_copy(model, c, device, False), tok, device, log, 32, quick=True, kw={"dtype": dtype})
            checkpoint.save(args.out, model.state_dict(), c.to_hf())
            quick = mark = time.time()
            mark_seen = seen


if __name__ == "__main__":
    main()
