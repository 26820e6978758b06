"""Minnow: the DeepSeek V4 Flash architecture at toy size, written for training (all tokens at once).

Parameter names and shapes are those of transformers' DeepseekV4ForCausalLM, so a state_dict loads there unchanged; section
numbers are those of the model specification, as in the comments of src/model. Choices made for speed:
- the sliding window is computed in blocks of `window` queries against two blocks of keys; one KV head serves all heads, so every
  product is one batched matrix product without a transpose;
- every expert sees every token and the routing weight (zero for most) multiplies its hidden values: two large matrix products;
- top-k of the indexer is a mask over all compressed rows.

The indexer's choice has no gradient. It is trained beside the model: its scores, through a softmax over the visible rows, are
pulled (KL divergence) to the attention mass that the heads together put on those rows, with the inputs detached so that the model
itself is not bent by it. The target is taken over all rows, also those not selected, so the indexer learns what it missed.
"""
import math
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint as recomputed

import sinkhorn

FAR_LIMIT = 1 << 28  # attention scores on compressed rows that may exist at once (batch x queries x heads x rows)

LAYER_TYPES = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}


@dataclass
class Config:
    vocab: int = 2048
    hidden: int = 256
    ratios: list = field(default_factory=lambda: [0, 0, 4, 128, 4, 128, 4])
    heads: int = 8
    head_dim: int = 128
    rope_dim: int = 64
    q_lora: int = 128
    o_groups: int = 4
    o_lora: int = 64
    window: int = 128
    experts: int = 6
    top_k: int = 2
    inner: int = 256
    hash_layers: int = 3
    index_heads: int = 4
    index_dim: int = 128
    index_topk: int = 128
    streams: int = 4
    mtp: int = 1
    routed_scale: float = 1.5
    limit: float = 10.0
    eps: float = 1e-6

    @classmethod
    def from_hf(cls, d):
        return cls(vocab=d["vocab_size"], hidden=d["hidden_size"], ratios=d["compress_ratios"], heads=d["num_attention_heads"], head_dim=d["head_dim"],
                   rope_dim=round(d["head_dim"] * d["partial_rotary_factor"]), q_lora=d["q_lora_rank"], o_groups=d["o_groups"], o_lora=d["o_lora_rank"],
                   window=d["sliding_window"], experts=d["n_routed_experts"], top_k=d["num_experts_per_tok"], inner=d["moe_intermediate_size"],
                   hash_layers=d["mlp_layer_types"].count("hash_moe"), index_heads=d["index_n_heads"], index_dim=d["index_head_dim"],
                   index_topk=d["index_topk"], mtp=0, routed_scale=d["routed_scaling_factor"], limit=d["swiglu_limit"])

    def to_hf(self):
        n, part = len(self.ratios), self.rope_dim / self.head_dim
        return dict(
            architectures=["DeepseekV4ForCausalLM"], model_type="deepseek_v4", vocab_size=self.vocab, hidden_size=self.hidden, moe_intermediate_size=self.inner,
            num_hidden_layers=n, num_attention_heads=self.heads, num_key_value_heads=1, head_dim=self.head_dim, q_lora_rank=self.q_lora,
            num_experts_per_tok=self.top_k, n_routed_experts=self.experts, n_shared_experts=1, scoring_func="sqrtsoftplus", norm_topk_prob=True,
            routed_scaling_factor=self.routed_scale, max_position_embeddings=1048576, rope_theta=10000.0, compress_rope_theta=160000.0,
            layer_types=[LAYER_TYPES[r] for r in self.ratios], compress_rates={LAYER_TYPES[4]: 4, LAYER_TYPES[128]: 128},
            mlp_layer_types=["hash_moe" if i < self.hash_layers else "moe" for i in range(n)], hc_mult=self.streams, hc_sinkhorn_iters=20, hc_eps=1e-6,
            swiglu_limit=self.limit, sliding_window=self.window, o_groups=self.o_groups, o_lora_rank=self.o_lora, index_n_heads=self.index_heads,
            index_head_dim=self.index_dim, index_topk=self.index_topk, num_nextn_predict_layers=self.mtp, hidden_act="silu", rms_norm_eps=self.eps,
            bos_token_id=0, eos_token_id=1, pad_token_id=None, tie_word_embeddings=False, attention_bias=False, attention_dropout=0.0, mlp_bias=False,
            initializer_range=0.02, use_cache=True, partial_rotary_factor=part, torch_dtype="bfloat16",
            rope_parameters={"main": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": part},
                             "compress": {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 65536, "beta_fast": 32.0, "beta_slow": 1.0,
                                          "attention_factor": 1.0, "rope_theta": 160000.0, "partial_rotary_factor": part}},
            compress_ratios=list(self.ratios))


def lin(x, w):
    return F.linear(x, w.to(x.dtype))


class Weight(nn.Module):
    """A bare matrix or vector called `weight`, so that names match."""

    def __init__(self, *shape):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(*shape))


def rms(x, w=None, eps=1e-6):
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)
    return (y if w is None else y * w).to(x.dtype)


# ---- rope (section 5) -----------------------------------------------------------------------------------------------

def frequencies(dim, compressed):
    i = torch.arange(dim // 2, dtype=torch.float32)
    if not compressed:
        return 10000.0 ** (-2 * i / dim)
    f = 160000.0 ** (-2 * i / dim)
    corr = lambda turns: dim * math.log(65536 / (turns * 2 * math.pi)) / (2 * math.log(160000.0))
    low, high = max(math.floor(corr(32)), 0), min(math.ceil(corr(1)), dim - 1)
    ramp = ((i - low) / max(high - low, 0.001)).clamp(0, 1)
    return f / 16 * ramp + f * (1 - ramp)


def rotate(x, cos, sin):
    """Interleaved pairs of the last 2n values; cos and sin [..., n] must broadcast with x without its last dimension."""
    n = 2 * cos.shape[-1]
    u = x[..., -n:].float().unflatten(-1, (-1, 2))
    a, b = u[..., 0], u[..., 1]
    t = torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)
    return torch.cat((x[..., :-n], t), -1)


# ---- simulated cache rounding (section 6), straight-through in training -----------------------------------------------

def _minifloat(x, low, mantissa):
    """Round to a grid with `mantissa` bits after the leading one; exponents below `low` share its step."""
    e = torch.floor(torch.log2(x.abs().clamp(min=1e-30))).clamp(min=low)
    step = torch.exp2(e - mantissa)
    return torch.round(x / step) * step


def _round_blocks(x, block, top, floor, low, mantissa):
    y = x.detach().float().reshape(*x.shape[:-1], -1, block)
    amax = y.abs().amax(-1, keepdim=True).clamp(min=floor)
    scale = torch.exp2(torch.ceil(torch.log2(amax / top)))
    y = (_minifloat((y / scale).clamp(-top, top), low, mantissa) * scale).reshape(x.shape)
    return x + (y.to(x.dtype) - x.detach())


def fp8_rows(x, rope_dim):
    return torch.cat((_round_blocks(x[..., :-rope_dim], 64, 448.0, 1e-4, -6, 3), x[..., -rope_dim:]), -1)


def fp4_index(x, hadamard):
    return _round_blocks(x @ hadamard.to(x.dtype), 32, 6.0, 6 * 2.0 ** -126, 0, 1)


def hadamard(n):
    h = torch.ones(1, 1)
    while h.shape[0] < n:
        h = torch.cat((torch.cat((h, h), 1), torch.cat((h, -h), 1)), 0)
    return h * n ** -0.5


# ---- compressor and indexer (sections 7, 8) -----------------------------------------------------------------------------

class Compressor(nn.Module):
    def __init__(self, c, ratio, dim):
        super().__init__()
        self.ratio, self.dim, wide = ratio, dim, dim * (2 if ratio == 4 else 1)
        self.kv_proj, self.gate_proj, self.kv_norm = Weight(wide, c.hidden), Weight(wide, c.hidden), Weight(dim)
        self.position_bias = nn.Parameter(torch.empty(ratio, wide))

    def rows(self, x, rope):
        b, s, _ = x.shape
        kv = lin(x, self.kv_proj.weight).view(b, s // self.ratio, self.ratio, -1)
        gate = lin(x, self.gate_proj.weight).view(b, s // self.ratio, self.ratio, -1).float() + self.position_bias
        if self.ratio == 4:  # half A of the window before, half B of this one
            d = self.dim
            before = lambda t, v: F.pad(t[:, :-1, :, :d], (0, 0, 0, 0, 1, 0), value=v)
            kv = torch.cat((before(kv, 0.0), kv[..., d:]), 2)
            gate = torch.cat((before(gate, -1e30), gate[..., d:]), 2)
        row = (kv * gate.softmax(2).to(kv.dtype)).sum(2)
        return rotate(rms(row, self.kv_norm.weight), rope[0][:s:self.ratio], rope[1][:s:self.ratio])


class Indexer(Compressor):
    def __init__(self, c):
        super().__init__(c, 4, c.index_dim)
        self.heads, self.topk = c.index_heads, c.index_topk
        self.q_b_proj = Weight(c.index_heads * c.index_dim, c.q_lora)
        self.scorer = nn.Module()
        self.scorer.weights_proj = Weight(c.index_heads, c.hidden)

    def parts(self, x, qr, rope, sim, had):
        """Queries [B, S, heads, dim], rows [B, S / 4, dim] and head weights [B, S, heads]."""
        b, s, _ = x.shape
        q = rotate(lin(qr, self.q_b_proj.weight).view(b, s, self.heads, self.dim), rope[0][:s, None], rope[1][:s, None])
        k = self.rows(x, rope)
        if sim:
            q, k = fp4_index(q, had), fp4_index(k, had)
        return q, k, lin(x, self.scorer.weights_proj.weight).float() * (self.dim * self.heads) ** -0.5


def index_scores(q, k, w):
    b, s, heads, dim = q.shape
    z = torch.bmm(q.reshape(b, s * heads, dim), k.transpose(1, 2)).view(b, s, heads, -1)
    return (F.relu(z).float() * w.unsqueeze(-1)).sum(2)


class AttentionCompressor(Compressor):
    def __init__(self, c, ratio):
        super().__init__(c, ratio, c.head_dim)
        if ratio == 4:
            self.indexer = Indexer(c)


# ---- attention (sections 4, 9) ------------------------------------------------------------------------------------------

class Attention(nn.Module):
    def __init__(self, c, ratio):
        super().__init__()
        self.c, self.ratio = c, ratio
        self.q_a_proj, self.q_a_norm = Weight(c.q_lora, c.hidden), Weight(c.q_lora)
        self.q_b_proj = Weight(c.heads * c.head_dim, c.q_lora)
        self.kv_proj, self.kv_norm = Weight(c.head_dim, c.hidden), Weight(c.head_dim)
        self.o_a_proj = Weight(c.o_groups * c.o_lora, c.heads * c.head_dim // c.o_groups)
        self.o_b_proj = Weight(c.hidden, c.o_groups * c.o_lora)
        self.sinks = nn.Parameter(torch.empty(c.heads))
        if ratio:
            self.compressor = AttentionCompressor(c, ratio)

    def forward(self, x, rope, had, aux, sim):
        c, (b, s, _) = self.c, x.shape
        h, d, w = c.heads, c.head_dim, c.window
        qr = rms(lin(x, self.q_a_proj.weight), self.q_a_norm.weight)
        q = rotate(rms(lin(qr, self.q_b_proj.weight).view(b, s, h, d)), rope[0][:s, None], rope[1][:s, None]) * d ** -0.5
        kv = rotate(rms(lin(x, self.kv_proj.weight), self.kv_norm.weight), rope[0][:s], rope[1][:s])
        if sim:
            kv = fp8_rows(kv, c.rope_dim)
        blocks = kv.view(b, s // w, w, d)
        keys = torch.cat((F.pad(blocks[:, :-1], (0, 0, 0, 0, 1, 0)), blocks), 2)
        rows, index = None, None
        if self.ratio:
            rows = self.compressor.rows(x, rope)
            if sim:
                rows = fp8_rows(rows, c.rope_dim)
            if self.ratio == 4 and (aux or rows.shape[1] > c.index_topk):
                index = self.compressor.indexer.parts(x.detach(), qr.detach(), rope, sim, had)
        step = s
        if self.ratio and b * s * h * rows.shape[1] > 2 * FAR_LIMIT:
            step = max(w, FAR_LIMIT // (b * h * rows.shape[1]) // w * w)
        if step >= s:
            o, loss, mass = self.attend(0, q, keys, rows, index, aux)
        else:  # long rows: queries in pieces, each computed again in the backward pass
            pieces = []
            for at in range(0, s, step):
                end = min(s, at + step)
                near_rows = rows[:, :end // self.ratio]
                part = index and (index[0][:, at:end], index[1][:, :end // self.ratio], index[2][:, at:end])
                args = (at, q[:, at:end], keys[:, at // w:end // w], near_rows, part, aux)
                pieces.append(recomputed(self.attend, *args, use_reentrant=False) if torch.is_grad_enabled() else self.attend(*args))
            o = torch.cat([p[0] for p in pieces], 1)
            loss, mass = sum(p[1] for p in pieces), sum(p[2] for p in pieces)
        loss = loss / (mass + 1e-6)
        o = rotate(o, rope[0][:s, None], -rope[1][:s, None])
        wa = self.o_a_proj.weight.to(x.dtype).view(c.o_groups, c.o_lora, -1)
        u = torch.einsum("bsgi,goi->bsgo", o.reshape(b, s, c.o_groups, -1), wa).flatten(2)
        return lin(u, self.o_b_proj.weight), loss

    def attend(self, first, q, keys, rows, index, aux):
        """Attention of the queries from position `first` on, and the sums of the index loss and of its weights.

        keys [B, S / window, 2 window, D]: the window before and its own; rows: those that the last query may see.
        """
        c, (b, s, h, d) = self.c, q.shape
        w = c.window
        near = torch.bmm(q.reshape(-1, w * h, d), keys.flatten(0, 1).transpose(1, 2)).view(b, s // w, w, h, 2 * w).float()
        at, to = torch.arange(w, device=q.device)[:, None], torch.arange(2 * w, device=q.device)
        block = torch.arange(first // w, (first + s) // w, device=q.device)[:, None, None]
        seen = ((to > at) & (to <= at + w))[None] & ((to >= w) | (block > 0))
        near = near.masked_fill(~seen[None, :, :, None], -1e30).view(b, s, h, 2 * w)
        sink = self.sinks.float().view(1, 1, h, 1)
        top = torch.maximum(near.amax(-1, keepdim=True), sink)
        loss = mass = q.new_zeros((), dtype=torch.float32)
        if rows is not None:
            n = rows.shape[1]
            visible = torch.arange(n, device=q.device) < (torch.arange(first + 1, first + s + 1, device=q.device) // self.ratio)[:, None]  # [S, R]
            far = torch.bmm(q.reshape(b, s * h, d), rows.transpose(1, 2)).view(b, s, h, n).float()
            chosen = visible[None]
            if index is not None:
                score = index_scores(*index).masked_fill(~visible, -1e30)
                if aux:
                    loss, mass = self.index_loss(score, far.detach(), near.detach(), sink.detach(), visible)
                if n > c.index_topk:
                    best = score.detach().topk(c.index_topk, -1).indices
                    chosen = visible & torch.zeros(b, s, n, dtype=torch.bool, device=q.device).scatter(-1, best, True)
            far = far.masked_fill(~chosen[:, :, None], -1e30)
            top = torch.maximum(top, far.amax(-1, keepdim=True))
        top = top.detach()
        near = torch.exp(near - top)
        total = near.sum(-1, keepdim=True) + torch.exp(sink - top)
        o = torch.bmm(near.to(q.dtype).view(-1, w * h, 2 * w), keys.flatten(0, 1)).view(b, s, h, d).float()
        if rows is not None:
            far = torch.exp(far - top)
            total = total + far.sum(-1, keepdim=True)
            o = o + torch.bmm(far.to(q.dtype).view(b, s * h, n), rows).view(b, s, h, d).float()
        return (o / total).to(q.dtype), loss, mass

    def index_loss(self, score, far, near, sink, visible):
        """KL from the attention mass on compressed rows (all heads, all visible rows) to the indexer's softmax.

        Queries count by the mass they put there, plus a little, since a query that looks only nearby has no opinion.
        """
        far = far.masked_fill(~visible[None, :, None], -1e30)
        top = torch.maximum(torch.maximum(far.amax(-1, keepdim=True), near.amax(-1, keepdim=True)), sink)
        e = torch.exp(far - top)
        p = (e / (e.sum(-1, keepdim=True) + torch.exp(near - top).sum(-1, keepdim=True) + torch.exp(sink - top))).mean(2)
        mass = p.sum(-1, keepdim=True)
        p = p / (mass + 1e-6)
        logq = torch.log_softmax(score, -1)
        kl = (p * (torch.log(p + 1e-9) - logq)).masked_fill(~visible, 0.0).sum(-1)
        weight = (mass.squeeze(-1) + 0.02) * visible.any(-1)
        return (kl * weight).sum(), weight.sum()


# ---- mixture of experts (section 10) --------------------------------------------------------------------------------------

class Experts(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.empty(c.experts, 2 * c.inner, c.hidden))
        self.down_proj = nn.Parameter(torch.empty(c.experts, c.hidden, c.inner))


class Shared(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = Weight(c.inner, c.hidden), Weight(c.inner, c.hidden), Weight(c.hidden, c.inner)


class Router(nn.Module):
    def __init__(self, c, hashed):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(c.experts, c.hidden))
        if hashed:
            self.register_buffer("tid2eid", torch.zeros(c.vocab, c.top_k, dtype=torch.long))
        else:
            self.register_buffer("e_score_correction_bias", torch.zeros(c.experts))


class Moe(nn.Module):
    def __init__(self, c, hashed):
        super().__init__()
        self.c, self.hashed = c, hashed
        self.gate, self.experts, self.shared_experts = Router(c, hashed), Experts(c), Shared(c)

    def forward(self, x, ids):
        c, lead = self.c, x.shape[:-1]
        score = torch.sqrt(F.softplus(F.linear(x.float(), self.gate.weight)))
        idx = self.gate.tid2eid[ids] if self.hashed else (score.detach() + self.gate.e_score_correction_bias).topk(c.top_k, -1).indices
        w = score.gather(-1, idx)
        w = w / (w.sum(-1, keepdim=True) + 1e-20) * c.routed_scale
        dense = torch.zeros_like(score).scatter(-1, idx, w)  # a token's experts are distinct
        count = (dense.detach() > 0).float().flatten(0, -2).mean(0)
        act = lambda g, u: F.silu(g.clamp(max=c.limit)) * u.clamp(-c.limit, c.limit)
        gu = lin(x, self.experts.gate_up_proj.flatten(0, 1)).view(*lead, c.experts, 2, c.inner)
        y = act(gu[..., 0, :], gu[..., 1, :]) * dense.to(x.dtype).unsqueeze(-1)
        out = lin(y.flatten(-2), self.experts.down_proj.transpose(0, 1).reshape(c.hidden, -1))
        sh = self.shared_experts
        return out + lin(act(lin(x, sh.gate_proj.weight), lin(x, sh.up_proj.weight)), sh.down_proj.weight), count


# ---- hyper-connections and layers (sections 2, 3) ---------------------------------------------------------------------------

class HyperConnection(nn.Module):
    def __init__(self, c):
        super().__init__()
        h = c.streams
        self.fn = nn.Parameter(torch.empty((2 + h) * h, h * c.hidden))
        self.base, self.scale = nn.Parameter(torch.empty((2 + h) * h)), nn.Parameter(torch.empty(3))

    def forward(self, X, normalise):
        h = X.shape[2]
        m = F.linear(rms(X.flatten(2).float()), self.fn)
        pre = torch.sigmoid(m[..., :h] * self.scale[0] + self.base[:h]) + 1e-6
        post = 2 * torch.sigmoid(m[..., h:2 * h] * self.scale[1] + self.base[h:2 * h])
        comb = normalise((m[..., 2 * h:] * self.scale[2] + self.base[2 * h:]).reshape(-1, h, h)).view(*X.shape[:2], h, h)
        return (pre.unsqueeze(-1) * X.float()).sum(2), post, comb


def hc_post(out, X, post, comb):
    """Stream k receives post[k] * out + sum over j of comb[j][k] * X[j]."""
    h, Xf, out = X.shape[2], X.float(), out.float()
    new = [post[..., k:k + 1] * out + sum(comb[..., j, k].unsqueeze(-1) * Xf[:, :, j] for j in range(h)) for k in range(h)]
    return torch.stack(new, 2).to(X.dtype)


class Block(nn.Module):
    def __init__(self, c, ratio, hashed):
        super().__init__()
        self.self_attn, self.mlp = Attention(c, ratio), Moe(c, hashed)
        self.input_layernorm, self.post_attention_layernorm = Weight(c.hidden), Weight(c.hidden)
        self.attn_hc, self.ffn_hc = HyperConnection(c), HyperConnection(c)

    def forward(self, X, ids, rope, had, normalise, aux, sim, dtype):
        x, post, comb = self.attn_hc(X, normalise)
        a, loss = self.self_attn(rms(x, self.input_layernorm.weight).to(dtype), rope, had, aux, sim)
        X = hc_post(a, X, post, comb)
        x, post, comb = self.ffn_hc(X, normalise)
        f, count = self.mlp(rms(x, self.post_attention_layernorm.weight).to(dtype), ids)
        return hc_post(f, X, post, comb), loss, count


class HyperHead(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.hc_fn = nn.Parameter(torch.empty(c.streams, c.streams * c.hidden))
        self.hc_base, self.hc_scale = nn.Parameter(torch.empty(c.streams)), nn.Parameter(torch.empty(1))

    def forward(self, X):
        pre = torch.sigmoid(F.linear(rms(X.flatten(2).float()), self.hc_fn) * self.hc_scale + self.hc_base) + 1e-6
        return (pre.unsqueeze(-1) * X.float()).sum(2)


class Mtp(Block):
    """The block that predicts one token further (section 12): the state at p and the token at p + 1 give p + 2."""

    def __init__(self, c):
        super().__init__(c, 0, False)
        self.enorm, self.hnorm, self.norm = Weight(c.hidden), Weight(c.hidden), Weight(c.hidden)
        self.e_proj, self.h_proj, self.hc_head = Weight(c.hidden, c.hidden), Weight(c.hidden, c.hidden), HyperHead(c)

    def join(self, X, e):
        e = lin(rms(e, self.enorm.weight), self.e_proj.weight)
        return e.unsqueeze(2) + lin(rms(X, self.hnorm.weight), self.h_proj.weight)


class Minnow(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, self.normalise, self.run_block, self.run_head = c, sinkhorn.plain, lambda block, *a: block(*a), lambda f, *a: f(*a)
        self.model = nn.Module()
        self.model.embed_tokens = Weight(c.vocab, c.hidden)
        self.model.layers = nn.ModuleList(Block(c, r, i < c.hash_layers) for i, r in enumerate(c.ratios))
        self.model.norm, self.model.hc_head = Weight(c.hidden), HyperHead(c)
        self.lm_head = Weight(c.vocab, c.hidden)
        self.mtp = nn.ModuleList(Mtp(c) for _ in range(c.mtp))
        self.ropes, self.had = {}, None

    def rope(self, s, device):
        """Tables of cos and sin [S, rope_dim / 2] for sliding and compressed layers."""
        if s not in self.ropes:
            p = torch.arange(s, dtype=torch.float32)
            self.ropes[s] = [tuple(f(torch.outer(p, frequencies(self.c.rope_dim, k))).to(device) for f in (torch.cos, torch.sin)) for k in (False, True)]
        if self.had is None:
            self.had = hadamard(self.c.index_dim).to(device)
        return self.ropes[s]

    def body(self, ids, aux=False, sim=False, dtype=torch.float32):
        """Streams after the last layer, the mean index loss, and per layer the share of tokens each expert got."""
        unit = math.lcm(self.c.window, 128)
        s = ids.shape[1]
        ids = F.pad(ids, (0, -s % unit), value=2)  # later tokens never change earlier ones
        ropes = self.rope(ids.shape[1], ids.device)
        X = F.embedding(ids, self.model.embed_tokens.weight).to(dtype).unsqueeze(2).expand(-1, -1, self.c.streams, -1).contiguous()
        loss, counts = 0.0, []
        for block, ratio in zip(self.model.layers, self.c.ratios):
            X, l, n = self.run_block(block, X, ids, ropes[ratio > 0], self.had, self.normalise, aux, sim, dtype)
            loss = loss + l
            counts.append(n)
        return X[:, :s], loss / max(1, self.c.ratios.count(4)), counts

    def head(self, X):
        return F.linear(rms(self.model.hc_head(X), self.model.norm.weight), self.lm_head.weight)

    def forward(self, ids, sim=False, dtype=torch.float32):
        return self.head(self.body(ids, sim=sim, dtype=dtype)[0])

    def draft_streams(self, X, following, sim=False, dtype=torch.float32):
        """Streams of the MTP block at every position p, from the streams there and the token at p + 1; and its expert shares.

        The model itself learns nothing from the block: its streams, embedding and head are taken as given.
        """
        block, s = self.mtp[0], X.shape[1]
        pad = -s % math.lcm(self.c.window, 128)
        ids = F.pad(following, (0, pad), value=2)
        X = F.pad(X.detach(), (0, 0, 0, 0, 0, pad)).to(dtype)
        X = block.join(X, F.embedding(ids, self.model.embed_tokens.weight.detach()).to(dtype))
        X, _, count = self.run_block(block, X, ids, self.rope(ids.shape[1], ids.device)[0], self.had, self.normalise, False, sim, dtype)
        return X[:, :s], count

    def draft_head(self, X):
        block = self.mtp[0]
        return F.linear(rms(block.hc_head(X), block.norm.weight), self.lm_head.weight.detach())

    def head_loss(self, X, target, weight, drafting):
        z = self.draft_head(X) if drafting else self.head(X)
        ce = F.cross_entropy(z.flatten(0, 1), target.flatten(), reduction="none").view_as(weight)
        right = (z.detach().argmax(-1) == target).float()
        said = (weight >= 1).float()
        return (ce * weight).sum() / weight.sum().clamp(min=1), (ce.detach() * said).sum() / said.sum().clamp(min=1), (right * said).sum() / said.sum().clamp(min=1)

    def loss(self, ids, target, weight, sim=False, dtype=torch.float32):
        """(training loss, index loss, loss on assistant tokens, their accuracy, loss of the draft, its accuracy, expert shares)"""
        X, index, counts = self.body(ids, aux=True, sim=sim, dtype=dtype)
        ce, said, right = self.run_head(self.head_loss, X, target, weight, False)
        draft, drafted = torch.zeros_like(ce), torch.zeros_like(right)
        if self.mtp:
            Y, count = self.draft_streams(X, target, sim, dtype)
            further = torch.cat((target[:, 1:], target[:, :1]), 1)
            draft, _, drafted = self.run_head(self.head_loss, Y, further, torch.cat((weight[:, 1:], torch.zeros_like(weight[:, :1])), 1), True)
            counts = counts + [count]
        return ce, index, said, right, draft, drafted, counts

    def routers(self):
        """The blocks in the order of the expert shares that loss() returns."""
        return [*self.model.layers, *self.mtp]

    @torch.no_grad()
    def initialise(self, seed=0):
        g = torch.Generator().manual_seed(seed)
        n, h = lambda p, std: p.copy_(torch.randn(p.shape, generator=g) * std), self.c.streams
        for name, p in self.named_parameters():
            if name.endswith("norm.weight") and "layers" not in name or "norm.weight" in name or "layernorm" in name:
                p.fill_(1.0)
            elif name.endswith("sinks") or name.endswith("hc_base"):
                p.zero_()
            elif name.endswith((".scale", "hc_scale")):
                p.fill_(0.1)
            elif name.endswith(("position_bias", "_hc.fn", "hc_fn")):
                n(p, 0.02)
            elif name.endswith("_hc.base"):  # each sublayer reads mostly one stream, writes to all, and mixes little
                layer = int(name.split(".")[2]) if "layers" in name else len(self.c.ratios)
                read = (2 * layer + ("ffn_hc" in name)) % h
                p.copy_(torch.cat((torch.full((h,), -2.0), torch.randn(h, generator=g) * 0.3, (torch.eye(h) * 3).flatten())))
                p[read] = 1.5
            elif "embed_tokens" in name:
                n(p, 0.3)
            elif "lm_head" in name:
                n(p, 0.02)
            else:
                out = name.endswith(("o_b_proj.weight", "down_proj.weight", "down_proj"))
                n(p, (0.3 if out else 1.0) * p.shape[-1] ** -0.5)
        for name, b in self.named_buffers():
            if name.endswith("tid2eid"):
                b.copy_(torch.stack([torch.randperm(self.c.experts, generator=g)[:self.c.top_k] for _ in range(self.c.vocab)]))
        return self


def load_folder(folder):
    """The model of config.json and *.safetensors, in float32; with its MTP block when that is there."""
    import json

    import checkpoint
    state = {k: v.long() if v.dtype == torch.int32 else v.float() for k, v in checkpoint.read_dir(folder).items()}
    config = Config.from_hf(json.load(open(folder + "/config.json")))
    m = Minnow(replace(config, mtp=int(any(k.startswith("mtp.") for k in state))))
    m.load_state_dict(state)
    return m


def check_transformers(model, lengths=(5, 700, 1500), tolerance=1e-3):
    """Worst difference of the logits from transformers' DeepseekV4ForCausalLM, float32 on the CPU."""
    from transformers import DeepseekV4Config, DeepseekV4ForCausalLM
    c = model.c
    cfg = DeepseekV4Config(
        vocab_size=c.vocab, hidden_size=c.hidden, moe_intermediate_size=c.inner, num_attention_heads=c.heads, head_dim=c.head_dim, q_lora_rank=c.q_lora,
        num_experts_per_tok=c.top_k, n_routed_experts=c.experts, num_hash_layers=c.hash_layers, sliding_window=c.window, o_groups=c.o_groups, o_lora_rank=c.o_lora,
        index_n_heads=c.index_heads, index_head_dim=c.index_dim, index_topk=c.index_topk, num_hidden_layers=len(c.ratios), compress_ratios=list(c.ratios),
        qk_rope_head_dim=c.rope_dim, n_shared_experts=1, routed_scaling_factor=c.routed_scale, rope_theta=10000.0, compress_rope_theta=160000.0,
        rope_parameters=dict(rope_type="yarn", factor=16.0, original_max_position_embeddings=65536, beta_fast=32.0, beta_slow=1.0),
        max_position_embeddings=1048576, attn_implementation="eager")
    ref = DeepseekV4ForCausalLM(cfg).float().eval()
    state = {k: v.detach().cpu() for k, v in model.state_dict().items() if not k.startswith("mtp.")}  # not in that library
    lost = ref.load_state_dict(state, strict=False)
    assert not lost.unexpected_keys and not [k for k in lost.missing_keys if "inv_freq" not in k], lost
    own = Minnow(replace(c, mtp=0)).float()
    own.load_state_dict(state)
    worst, g = {}, torch.Generator().manual_seed(1)
    for n in lengths:
        ids = torch.randint(0, c.vocab, (1, n), generator=g)
        with torch.no_grad():
            worst[n] = (ref(input_ids=ids, use_cache=False).logits - own(ids)).abs().max().item()
    return worst, max(worst.values()) < tolerance


if __name__ == "__main__":  # model.py FOLDER: compare with recorded logits (config.json, model.safetensors, golden.safetensors)
    import json, sys

    import checkpoint
    d = sys.argv[1]
    m = load_folder(d)
    gold = checkpoint.read(d + "/golden.safetensors")
    for k in sorted((k for k in gold if k.startswith("prompt.")), key=lambda k: int(k[7:])):
        with torch.no_grad():
            z = m(gold[k].long()[None])[0]
        want = gold["logits." + k[7:]]
        print(k, "worst difference", (z - want).abs().max().item(), "logit std", want.std().item())
