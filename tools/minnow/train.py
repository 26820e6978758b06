"""Train Minnow in a fixed time, or on a fixed number of tokens, and write a Hugging Face style folder.

    python3 tools/minnow/train.py --minutes 15 --out out              everything, start to finish, on all GPUs that there are
    python3 tools/minnow/train.py --budget-tokens 250e6 --from out --lr 5e-3 --out more
                                                                      from the weights of an earlier run, as long as it takes
    python3 tools/minnow/train.py --tiny --steps 30 --out out         a check of the plumbing on a CPU

One process for each GPU (--gpus). A step takes --pieces pieces of --tokens tokens; piece k has its own random stream and goes to GPU
k modulo their number, or, where there are fewer pieces than GPUs, row by row to several. So the number of GPUs changes only the time
that a step takes.

Writes config.json, tokenizer.json, model*.safetensors (BF16), eval.json, log.txt. If anything fails on the way, what has been
learned so far is still written.
"""
import argparse, json, math, multiprocessing as mp, os, socket, sys, threading, time, traceback
from queue import Full
from typing import NamedTuple

START = time.time()
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import numpy as np
import torch
import torch.distributed as dist

import checkpoint, data, evaluate, model as network, sinkhorn, tokenizer
from model import Config, Minnow, check_transformers
from optim import Optimiser

LONG = "8192re+16384re+8192re+32768re"


def arguments():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--minutes", type=float, default=15.0, help="wall time of the whole run, evaluation included")
    a.add_argument("--budget-tokens", type=float, default=0, help="stop after so many tokens instead, however long that takes")
    a.add_argument("--out", default="out", help="folder to write")
    a.add_argument("--phases", default=f"2048r:0.12,2048r+{LONG}@2:0.25,2048r+{LONG}@8:0.63",
                   help="length:share of the time or tokens; r = with rounded caches (spec: model section 6), e = not compiled; "
                        "A+B+C@n: every n-th step takes B and C in turn, the others A. The rate falls to zero during the last phase")
    a.add_argument("--tokens", type=int, default=32768, help="tokens of a piece")
    a.add_argument("--pieces", type=int, default=0, help="pieces of a step (default: one for each GPU)")
    a.add_argument("--gpus", type=int, default=0, help="processes (default: one for each GPU that there is)")
    a.add_argument("--lr", type=float, default=4e-3)
    a.add_argument("--warmup", type=int, default=100)
    a.add_argument("--reserve", type=float, default=80, help="seconds kept for evaluation and writing")
    a.add_argument("--compile-budget", type=float, default=170, help="seconds of warming up after which later lengths run uncompiled")
    a.add_argument("--vocab", type=int, default=2048)
    a.add_argument("--experts", type=int, default=4)
    a.add_argument("--ratios", default="0,0,4,128,4,128,4")
    a.add_argument("--index-topk", type=int, default=128)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--workers", type=int, default=8, help="processes that make the data of one piece; part of what a run is determined by")
    a.add_argument("--eager", action="store_true", help="no torch.compile")
    a.add_argument("--f32", action="store_true", help="float32 activations")
    a.add_argument("--all-visible", action="store_true", help="every process sees all GPUs; they then share no compiled code while warming up")
    a.add_argument("--state", default="", help="where the float32 training state is kept (default OUT/state.pt)")
    a.add_argument("--resume", default="", help="continue from such a state")
    a.add_argument("--from", dest="start", default="", help="begin with the weights and the tokenizer of this folder; surplus experts are left out")
    a.add_argument("--quick", type=float, default=100, help="seconds between quick evaluations")
    a.add_argument("--brief", action="store_true", help="only a quick evaluation at the end: the run is a stage of several")
    a.add_argument("--steps", type=int, default=0, help="stop after so many steps")
    a.add_argument("--skip-check", action="store_true", help="no comparison with transformers and tokenizers")
    a.add_argument("--tiny", action="store_true", help="a very small model, for checks on a CPU")
    args = a.parse_args()
    if args.tiny:
        args.phases, args.tokens, args.workers, args.eager, args.reserve, args.warmup = "256:0.5,256r+640r@3:0.5", 1280, 1, True, 5, 5
    args.phases = [Phase.parse(p) for p in args.phases.split(",")]
    args.gpus = args.gpus or torch.cuda.device_count() or 1
    args.pieces = args.pieces or args.gpus
    args.state = args.state or os.path.join(args.out, "state.pt")
    return args


# ---- the schedule -------------------------------------------------------------------------------------------------------

class Rows(NamedTuple):
    """A kind of batch."""
    length: int
    rounded: bool
    eager: bool


class Phase(NamedTuple):
    kinds: list
    every: int
    share: float

    @classmethod
    def parse(cls, text):
        kinds, share = text.split(":")
        kinds, _, every = kinds.partition("@")
        return cls([Rows(int(k.rstrip("re")), "r" in k, "e" in k) for k in kinds.split("+")], int(every or 1), float(share))

    def kind(self, step):
        """What its step number `step` takes."""
        others = self.kinds[1:]
        return others[step // self.every % len(others)] if others and step % self.every == self.every - 1 else self.kinds[0]


class Pace:
    """How far the run is at each step, as the first process sees it: all must agree on the phase and the end.

    Through shared memory, since a value that comes from a GPU would make the host wait for all work queued there.
    """
    SIZE, END = 1024, 2.0

    def __init__(self, cells, rank):
        self.cells, self.rank = cells, rank

    def at(self, step, progress):
        i = 2 * (step % self.SIZE)
        if self.rank == 0:
            self.cells[i + 1] = progress
            self.cells[i] = step + 1
            return progress
        parent = os.getppid()
        while self.cells[i] != step + 1:
            if self.stopped() or os.getppid() != parent:
                return self.END
            time.sleep(2e-4)
        return self.cells[i + 1]

    def stop(self):
        self.cells[2 * self.SIZE] = 1

    def stopped(self):
        return self.cells[2 * self.SIZE] != 0


# ---- data workers -----------------------------------------------------------------------------------------------------

def worker(index, of, stream, path, phase, phases, tokens, queue):
    """Batches of the current phase: those of its steps index, index + of, ... Each stream, phase and length is fixed by the seed."""
    tok, made, rows, step, parent = tokenizer.Tokenizer.load(path), -1, {}, 0, os.getppid()
    while True:
        p = phase.value
        if p != made:
            made, rows, step = p, {}, index
        n = phases[p].kind(step).length
        if n not in rows:
            rows[n] = data.rows(f"{stream}/{index}/{p}/{n}", n, tok.encode)
        pairs = [next(rows[n]) for _ in range(max(1, tokens // n))]
        item = p, step, np.array([i for i, _ in pairs], dtype=np.int16), np.array([w for _, w in pairs], dtype=np.float16)
        while True:
            try:
                queue.put(item, timeout=10)
                break
            except Full:
                if os.getppid() != parent:
                    return
        step += of


class Feed:
    """The batches of the pieces that this process computes, or of its rows of one piece: those from `part` on, `parts` apart."""

    def __init__(self, args, path, rank):
        ctx = mp.get_context("fork")
        self.phase, self.step = ctx.Value("i", 0), 0
        first = rank % args.pieces
        pieces = range(first, args.pieces, args.gpus)
        self.part, self.parts = rank // args.pieces, len(range(first, args.gpus, args.pieces))
        self.queues = {k: [ctx.Queue(maxsize=4) for _ in range(args.workers)] for k in pieces}
        self.procs = [ctx.Process(target=worker, args=(i, args.workers, f"{args.seed}/{k}", path, self.phase, args.phases, args.tokens, q), daemon=True)
                      for k, queues in self.queues.items() for i, q in enumerate(queues)]
        for p in self.procs:
            p.start()

    def enter(self, phase):
        self.phase.value, self.step = phase, 0

    def rows(self, n):
        """How many of a piece's n rows this process takes."""
        return len(range(self.part, n, self.parts))

    def next(self, device):
        """Of each piece: inputs, targets, weights, and which share of its rows these are."""
        out = []
        for queues in self.queues.values():
            while True:
                p, step, ids, w = queues[self.step % len(queues)].get(timeout=120)
                if p == self.phase.value:
                    break
            assert step == self.step, (step, self.step)
            n = len(ids)
            if not self.rows(n):
                continue
            ids, w = (torch.from_numpy(x[self.part::self.parts]).to(device, non_blocking=True) for x in (ids, w))
            ids = ids.long()
            out.append((ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), w[:, 1:].float().contiguous(), len(ids) / n))
        self.step += 1
        return out

    def close(self):
        for p in self.procs:
            p.terminate()


# ---- training -----------------------------------------------------------------------------------------------------------

LOGGED = 5


def step(model, batches, micro, total, sim, dtype):
    """Forward and backward over batches in `micro` pieces each, of `total` on all GPUs; values to log and the expert shares of every layer, as one
    vector. Gradients and vector are this process's share of the mean over all batches."""
    record = 0
    for *batch, share in batches:
        pieces = [t.chunk(micro) for t in batch]
        part = share / (len(pieces[0]) * total)
        for i, t, w in zip(*pieces):
            ce, index, said, right, draft, drafted, counts = model.loss(i, t, w, sim, dtype)
            ((ce + 0.1 * index + draft) * part).backward()
            values = torch.stack([torch.as_tensor(v).detach().to(ce.device).float() for v in (ce, index, said, right, drafted)])
            record = record + torch.cat([values, *(c.detach().float() for c in counts)]) * part
    return record


def sum_over_ranks(model, record):
    """Adds up gradients and record of all processes, in one go."""
    params = [p for p in model.parameters()]
    flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).reshape(-1) for p in params] + [record])
    dist.all_reduce(flat)
    at = 0
    for p in params:
        p.grad = flat[at:at + p.numel()].view_as(p)
        at += p.numel()
    return flat[at:]


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


def warm_up_blocks(model, rank, world, kind, rows, dtype, device):
    """Compile this rank's share of the kinds of blocks for one kind of rows; what the others compiled is then in the cache on disk."""
    c, seen, turn = model.c, set(), 0
    ids = torch.randint(0, c.vocab, (rows, kind.length), device=device)
    blocks = [(b, r, True) for b, r in zip(model.model.layers, c.ratios)] + [(b, 0, False) for b in model.mtp]
    blocks.sort(key=lambda b: b[1] != 4)  # the largest first
    for block, ratio, aux in blocks:
        name = type(block).__name__, ratio, block.mlp.hashed
        if name in seen:
            continue
        seen.add(name)
        turn += 1
        if turn % world != rank:
            continue
        X = torch.randn(*ids.shape, c.streams, c.hidden, device=device, dtype=dtype).requires_grad_()
        out = model.run_block(block, X, ids, model.rope(kind.length, device)[ratio > 0], model.had, model.normalise, aux, kind.rounded, dtype)
        (out[0].float().sum() + out[1]).backward()


def main():
    args = arguments()
    os.makedirs(args.out, exist_ok=True)
    tok = tokenizer.Tokenizer.load(args.start + "/tokenizer.json") if args.start else tokenizer.train(args.vocab, tokenizer.corpus())
    tok.save(os.path.join(args.out, "tokenizer.json"))
    ctx = mp.get_context("spawn")
    cells, procs = ctx.Array("d", 2 * Pace.SIZE + 1, lock=False), []
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    visible = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(args.gpus)))).split(",")
    try:
        for rank in [*range(1, args.gpus), 0]:
            if args.gpus > 1 and not args.all_visible:  # compiled code names its device: for each process it is the first
                os.environ["CUDA_VISIBLE_DEVICES"] = visible[rank % len(visible)]
            if rank:
                procs.append(ctx.Process(target=run, args=(rank, args, cells, port)))
                procs[-1].start()
        run(0, args, cells, port, procs)
    finally:
        Pace(cells, 0).stop()
        for p in procs:
            p.join(10)
            if p.is_alive():
                p.terminate()


def connect(rank, args, port, log, device):
    """Join the other processes; a link that gives no sum within two minutes ends this one, since nothing else would."""
    done = threading.Event()

    def watch():
        if not done.wait(120):
            log("no connection to the other processes")
            os._exit(4)
    threading.Thread(target=watch, daemon=True).start()
    dist.init_process_group("nccl" if device == "cuda" else "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=args.gpus)
    x = torch.ones(1000, device=device)
    dist.all_reduce(x)
    assert x.sum().item() == 1000 * args.gpus
    done.set()
    log("connected:", args.gpus, "processes")


def guard(procs, pace, log):
    """Ends the run when another process has failed, which this one would wait for forever. What was last saved stays."""
    def watch():
        while not pace.stopped():
            time.sleep(2)
            bad = [p.exitcode for p in procs if p.exitcode not in (None, 0)]
            if bad and not pace.stopped():
                log("another process failed, exit codes", bad)
                for p in procs:
                    p.terminate()
                os._exit(5)
    threading.Thread(target=watch, daemon=True).start()


def run(rank, args, cells, port, procs=()):
    """One process of the run; that of rank 0 logs, evaluates and writes."""
    log_file = open(os.path.join(args.out, "log.txt"), "w") if rank == 0 else None

    def log(*a):
        line = f"[{time.time() - START:6.1f}] " + (f"process {rank}: " if rank else "") + " ".join(map(str, a))
        print(line, flush=True)
        if log_file:
            log_file.write(line + "\n")
            log_file.flush()

    device = "cuda" if torch.cuda.device_count() else "cpu"  # counts without starting CUDA, so that the workers can still fork
    dtype = torch.float32 if args.f32 or device == "cpu" else torch.bfloat16
    tok_path = os.path.join(args.out, "tokenizer.json")
    tok = tokenizer.Tokenizer.load(tok_path)
    feed = Feed(args, tok_path, rank)
    pace = Pace(cells, rank)
    if procs:
        guard(procs, pace, log)
    try:
        learn(rank, args, pace, port, log, device, dtype, tok_path, tok, feed)
    finally:
        feed.close()


def learn(rank, args, pace, port, log, device, dtype, tok_path, tok, feed):
    if device == "cuda":
        torch.cuda.set_device(rank if args.all_visible else 0)
        torch.set_float32_matmul_precision("high")
    if args.gpus > 1:
        connect(rank, args, port, log if rank == 0 else lambda *a: None, device)
    small = dict(hidden=64, inner=64, heads=2, head_dim=128, q_lora=64, o_groups=2, o_lora=32, index_heads=2, window=32, index_topk=48) if args.tiny else {}
    c = Config(**{**dict(vocab=tok.size, experts=args.experts, ratios=[int(r) for r in args.ratios.split(",")], index_topk=args.index_topk), **small})
    model = Minnow(c).initialise(args.seed)
    quiet = log if rank == 0 else lambda *a: None
    if args.start:
        state = starting_weights(args.start, c)
        own = model.state_dict()
        fit = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
        model.load_state_dict(fit, strict=False)
        quiet("began with", len(fit), "of", len(own), "tensors of", args.start)
    quiet("parameters:", sum(p.numel() for p in model.parameters()), "device:", torch.cuda.get_device_name() if device == "cuda" else "cpu", "torch", torch.__version__,
          "pieces a step:", args.pieces)
    if rank == 0 and not args.skip_check:
        for what, f in (("tokenizers library, documents that agree:", lambda: tokenizer.check(tok_path, 100)), ("transformers, worst logit difference:", lambda: check_transformers(model))):
            try:
                log(what, f())
            except Exception as e:  # noqa: BLE001 - reported, not fatal
                log(what, "FAILED", type(e).__name__, str(e)[:300])
    model.to(device)
    model.normalise = sinkhorn.fused_or_plain(device, quiet)
    opt = Optimiser(model, args.lr)
    seen = 0
    if args.resume and os.path.exists(args.resume):
        s = torch.load(args.resume, map_location=device)
        model.load_state_dict(s["model"])
        opt.load(s["opt"])
        seen = s["seen"]
        quiet("resumed after", seen, "tokens")
    if not args.eager and device == "cuda":
        compile_blocks(model)
    run_state = dict(seen=seen, history=[], kept={k: v.detach().clone() for k, v in model.state_dict().items()})  # kept: last state known to be good
    try:
        train(rank, args, pace, model, opt, feed, dtype, device, log, tok, run_state)
    except BaseException as e:  # noqa: BLE001 - keep what was learned
        log("training stopped:", type(e).__name__, str(e)[:500])
        log(traceback.format_exc()[-1500:])
        if rank:
            raise
        if not all(torch.isfinite(p).all() for p in model.parameters()):
            model.load_state_dict(run_state["kept"])
    pace.stop()
    if rank:
        return
    feed.close()
    names = checkpoint.save(args.out, model.state_dict(), c.to_hf())
    log("written:", " ".join(names))
    try:
        torch.save({"model": model.state_dict(), "opt": opt.state(), "seen": run_state["seen"]}, args.state)
        own = plain_copy(model, c, device, True)
        log("samples:")
        prompts = evaluate.sample_prompts()
        for p, r in zip(prompts, evaluate.greedy(own, tok, prompts, device, 3 if args.tiny else 110)):
            log("  ..." + json.dumps(p[-70:], ensure_ascii=False), "->", json.dumps(r, ensure_ascii=False))
        until = None if args.budget_tokens else START + args.minutes * 60 - 8
        scores = evaluate.report(own, tok, device, log, 4 if args.tiny else 64, args.tiny or args.brief, until)
        json.dump({"scores": scores, "tokens_seen": run_state["seen"], "history": run_state["history"]}, open(os.path.join(args.out, "eval.json"), "w"), indent=1)
        if not args.skip_check and (until is None or time.time() < until):
            log("transformers with the trained weights:", check_transformers(own.cpu(), (5, 900)))
    except Exception as e:  # noqa: BLE001
        log("evaluation failed:", type(e).__name__, str(e)[:300], traceback.format_exc()[-800:])
    log("done")


def train(rank, args, pace, model, opt, feed, dtype, device, log, tok, run_state):
    c, phases, world = model.c, args.phases, args.gpus
    quiet = log if rank == 0 else lambda *a: None
    kinds = list(dict.fromkeys(k for p in phases for k in p.kinds))
    micro, far, eager = dict.fromkeys(kinds, 1), dict.fromkeys(kinds, network.FAR_LIMIT), {k: k.eager for k in kinds}
    routers = model.routers()

    def once(batches, kind):
        while True:
            rows = batches[0][0].shape[0]
            try:
                use_compiled(model, not eager[kind])
                network.FAR_LIMIT = far[kind]
                return step(model, batches, micro[kind], args.pieces, kind.rounded, dtype)
            except RuntimeError as e:
                if "out of memory" not in str(e).lower() or micro[kind] >= rows and far[kind] <= 1 << 22:
                    raise
            opt.zero()
            if micro[kind] < rows:
                micro[kind] *= 2
            else:
                far[kind] //= 2
            torch.cuda.empty_cache()
            log("out of memory: rows of", kind.length, "now in", micro[kind], "pieces, at most", far[kind], "scores at once")

    if device == "cuda":  # build every kind's kernels before the clock of the schedule starts
        t0 = time.time()
        for kind in sorted(kinds, key=lambda k: k.eager):
            late = torch.tensor([float(time.time() - t0 > args.compile_budget)], device=device)
            if world > 1:
                dist.all_reduce(late)
            if not kind.eager and late.item():
                quiet(f"warm-up took too long: length {kind.length} runs uncompiled")
                eager[kind] = True
            t1 = time.time()
            rows = max(1, feed.rows(max(1, args.tokens // kind.length)))
            if world > 1 and not eager[kind] and not args.eager:
                use_compiled(model, True)
                model.rope(kind.length, device)
                warm_up_blocks(model, rank, world, kind, rows, dtype, device)
                opt.zero()
                dist.all_reduce(late)
                torch.cuda.synchronize()
                quiet(f"own share of the blocks compiled in {time.time() - t1:.1f} s, all by now")
            ids = torch.randint(0, c.vocab, (rows, kind.length), device=device)
            once([(ids, ids, torch.ones_like(ids, dtype=torch.float32), 1.0)], kind)
            opt.zero()
            torch.cuda.synchronize()
            log(f"length {kind.length} ready in {time.time() - t1:.1f} s, memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.empty_cache()
    if world > 1:
        dist.all_reduce(torch.zeros(1, device=device))
    begin, end = time.time(), START + args.minutes * 60 - args.reserve
    shares = np.cumsum([p.share for p in phases])
    shares = shares / shares[-1]
    last = shares[-2] if len(phases) > 1 else 0.0
    first_seen = seen = run_state["seen"]
    at_phase = [0] * len(phases)
    n, phase, mark, mark_seen, quick, rate = 0, 0, time.time(), seen, time.time(), 1.0

    def measured():
        if args.steps:
            return n / args.steps
        if args.budget_tokens:
            return (seen - first_seen) / args.budget_tokens
        return (time.time() - begin) / max(1.0, end - begin)

    while True:
        progress = pace.at(n, measured())
        if progress >= 1:
            break
        want = int(np.searchsorted(shares, progress, side="right"))
        if want != phase:
            phase = want
            feed.enter(phase)
            quiet("phase", phase, "of rows of", *(k.length for k in phases[phase].kinds), "after", seen, "tokens")
        kind = phases[phase].kind(feed.step)
        batches = feed.next(device)
        record = once(batches, kind) if batches else torch.zeros(LOGGED + len(routers) * c.experts, device=device)
        if world > 1:
            record = sum_over_ranks(model, record)
        scale = min(1.0, (n + 1) / args.warmup) * min(1.0, max(0.01, (1 - progress) / (1 - last)))
        norm = opt.step(scale * rate)
        opt.zero()
        counts = record[LOGGED:].view(len(routers), c.experts)
        with torch.no_grad():
            for block, share in zip(routers, counts):
                if not block.mlp.hashed:
                    block.mlp.gate.e_score_correction_bias += 1e-3 * min(1.0, scale * 2) * torch.sign(share.mean() - share)
        n += 1
        tokens = args.tokens // kind.length * kind.length * args.pieces
        seen += tokens
        at_phase[phase] += tokens
        run_state["seen"] = seen
        if n % (5 if args.tiny else 50) == 0 or n == 1:
            v = record[:LOGGED].tolist()
            dt = time.time() - mark
            worst = max(float((s.max() / s.mean())) for b, s in zip(routers, counts) if not b.mlp.hashed)
            quiet(f"step {n} {progress:5.1%} rows of {kind.length} loss {v[0]:.3f} said {v[2]:.3f} right {v[3]:.1%} drafted {v[4]:.1%} index {v[1]:.3f} norm {float(norm):.2f} busiest expert x{worst:.2f} {(seen - mark_seen) / dt / 1e3:.0f}k tok/s")
            run_state["history"].append([n, seen, kind.length, round(v[0], 4), round(v[2], 4), round(v[1], 4), round(v[4], 4)])
            mark, mark_seen = time.time(), seen
            if not math.isfinite(v[0]):
                rate *= 0.5
                quiet("not finite: back to the last good state, rate halved")
                model.load_state_dict(run_state["kept"])
                for b in opt.buffers.values():
                    b.zero_()
                for _, m, s, _, _ in opt.adam:
                    m.zero_()
                    s.zero_()
            elif n % 250 == 0:
                if world > 1:  # equal sums give equal weights; where a kernel should differ, the first process's count
                    for t in model.state_dict().values():
                        dist.broadcast(t, 0)
                for k, t in model.state_dict().items():
                    run_state["kept"][k].copy_(t)
        if rank == 0 and not args.tiny and time.time() - quick > args.quick and (args.budget_tokens or end - time.time() > 40):
            evaluate.report(plain_copy(model, c, device, False), tok, device, log, 32, quick=True, kw={"dtype": dtype})
            checkpoint.save(args.out, model.state_dict(), c.to_hf())
            quick = mark = time.time()
            mark_seen = seen
    parts = [t / max(1, sum(at_phase)) for t in at_phase]
    quiet(f"{n} steps, {seen - first_seen} tokens in {time.time() - begin:.0f} s; shares of the phases in tokens:", " ".join(f"{p:.3f}" for p in parts))


if __name__ == "__main__":
    main()
