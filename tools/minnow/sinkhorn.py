"""Sinkhorn normalisation of the 4x4 stream mixers (spec: model section 3): plain, and as a fused Triton operator.

Forty tiny normalisations, eighteen times a pass, would be bound by kernel launches. The fused operator runs them in one kernel,
keeps the divisors, and walks back over them in the gradient: for y = x / s with s = sum(x) + eps,
dx = (dy - sum(dy * y)) / s and x = y * s.
"""
import torch

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

EPS, ITERS = 1e-6, 20


def plain(c):
    p = torch.softmax(c, -1) + EPS
    p = p / (p.sum(-2, keepdim=True) + EPS)
    for _ in range(ITERS - 1):
        p = p / (p.sum(-1, keepdim=True) + EPS)
        p = p / (p.sum(-2, keepdim=True) + EPS)
    return p


def plain_forward(c):
    """Result and divisors [156, N]: first column sums, then per iteration row sums and column sums."""
    p = torch.softmax(c, -1) + EPS
    s = []
    for i in range(2 * ITERS - 1):
        dim = -2 if i % 2 == 0 else -1
        d = p.sum(dim, keepdim=True) + EPS
        s.append(d.flatten(1))
        p = p / d
    return p, torch.cat(s, 1).t().contiguous()


def plain_backward(p, s, g):
    n = p.shape[0]
    for i in reversed(range(2 * ITERS - 1)):
        dim = -2 if i % 2 == 0 else -1
        d = s[4 * i:4 * i + 4].t().reshape(n, 1, 4) if dim == -2 else s[4 * i:4 * i + 4].t().reshape(n, 4, 1)
        g = (g - (g * p).sum(dim, keepdim=True)) / d
        p = p * d
    p = p - EPS
    return p * (g - (g * p).sum(-1, keepdim=True))


if triton is not None:

    @triton.jit
    def forward_kernel(C, P, S, N, ITERS: tl.constexpr, EPS: tl.constexpr, BLOCK: tl.constexpr):
        n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        k = tl.arange(0, 4)
        live = n < N
        at = n[:, None, None] * 16 + k[None, :, None] * 4 + k[None, None, :]
        x = tl.load(C + at, mask=live[:, None, None], other=0.0)
        x = tl.exp(x - tl.max(x, axis=2)[:, :, None])
        x = x / tl.sum(x, axis=2)[:, :, None] + EPS
        at_s = k[None, :] * N + n[:, None]
        d = tl.sum(x, axis=1) + EPS
        tl.store(S + at_s, d, mask=live[:, None])
        x = x / d[:, None, :]
        for i in range(ITERS - 1):
            d = tl.sum(x, axis=2) + EPS
            tl.store(S + at_s + (8 * i + 4) * N, d, mask=live[:, None])
            x = x / d[:, :, None]
            d = tl.sum(x, axis=1) + EPS
            tl.store(S + at_s + (8 * i + 8) * N, d, mask=live[:, None])
            x = x / d[:, None, :]
        tl.store(P + at, x, mask=live[:, None, None])

    @triton.jit
    def backward_kernel(P, S, G, OUT, N, ITERS: tl.constexpr, EPS: tl.constexpr, BLOCK: tl.constexpr):
        n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        k = tl.arange(0, 4)
        live = n < N
        at = n[:, None, None] * 16 + k[None, :, None] * 4 + k[None, None, :]
        y = tl.load(P + at, mask=live[:, None, None], other=0.25)
        g = tl.load(G + at, mask=live[:, None, None], other=0.0)
        at_s = k[None, :] * N + n[:, None]
        for j in range(ITERS - 1):
            i = ITERS - 2 - j
            d = tl.load(S + at_s + (8 * i + 8) * N, mask=live[:, None], other=1.0)
            g = (g - tl.sum(g * y, axis=1)[:, None, :]) / d[:, None, :]
            y = y * d[:, None, :]
            d = tl.load(S + at_s + (8 * i + 4) * N, mask=live[:, None], other=1.0)
            g = (g - tl.sum(g * y, axis=2)[:, :, None]) / d[:, :, None]
            y = y * d[:, :, None]
        d = tl.load(S + at_s, mask=live[:, None], other=1.0)
        g = (g - tl.sum(g * y, axis=1)[:, None, :]) / d[:, None, :]
        y = y * d[:, None, :] - EPS
        tl.store(OUT + at, y * (g - tl.sum(g * y, axis=2)[:, :, None]), mask=live[:, None, None])

    BLOCK = 64

    @torch.library.custom_op("minnow::sinkhorn", mutates_args=())
    def op(c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        c = c.contiguous()
        n = c.shape[0]
        p, s = torch.empty_like(c), c.new_empty(8 * ITERS - 4, n)
        forward_kernel[(triton.cdiv(n, BLOCK),)](c, p, s, n, ITERS, EPS, BLOCK)
        return p, s

    @op.register_fake
    def _(c):
        return torch.empty_like(c, memory_format=torch.contiguous_format), c.new_empty(8 * ITERS - 4, c.shape[0])

    @torch.library.custom_op("minnow::sinkhorn_backward", mutates_args=())
    def op_backward(p: torch.Tensor, s: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        g, n = g.contiguous(), p.shape[0]
        out = torch.empty_like(p)
        backward_kernel[(triton.cdiv(n, BLOCK),)](p, s, g, out, n, ITERS, EPS, BLOCK)
        return out

    @op_backward.register_fake
    def _(p, s, g):
        return torch.empty_like(p)

    def setup(ctx, inputs, output):
        ctx.save_for_backward(*output)

    def backward(ctx, g, _):
        p, s = ctx.saved_tensors
        return op_backward(p, s, g)

    op.register_autograd(backward, setup_context=setup)
    fused = lambda c: op(c)[0]


def fused_or_plain(device, log=print):
    """The fused operator if it builds and agrees with the plain one on this device, else the plain one."""
    if device != "cuda" or triton is None:
        return plain
    try:
        f = fused
        g = torch.Generator(device=device).manual_seed(0)
        c = torch.randn(1000, 4, 4, generator=g, device=device) * 2
        w = torch.randn(1000, 4, 4, generator=g, device=device)
        grads = []
        for fn in (plain, f):
            x = c.clone().requires_grad_()
            out = fn(x)
            (out * w).sum().backward()
            grads.append((out.detach(), x.grad))
        worst = max((a - b).abs().max().item() for a, b in zip(*grads))
        log(f"fused sinkhorn: worst difference {worst:.2e}")
        assert worst < 1e-4
        return f
    except Exception as e:  # noqa: BLE001 - any failure only costs speed
        log(f"fused sinkhorn unavailable ({type(e).__name__}: {str(e)[:200]}), using the plain one")
        return plain


if __name__ == "__main__":
    c = (torch.randn(50, 4, 4, dtype=torch.float64) * 2).requires_grad_()
    g = torch.randn(50, 4, 4, dtype=torch.float64)
    (plain(c) * g).sum().backward()
    p, s = plain_forward(c.detach())
    print("divisors", tuple(s.shape), "gradient difference", (plain_backward(p, s, g) - c.grad).abs().max().item(),
          "result difference", (p - plain(c.detach())).abs().max().item())
