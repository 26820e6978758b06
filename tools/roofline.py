#!/usr/bin/env python3
"""Roofline tables for DeepSeek V4 Flash in the q2 layout: experts IQ2_XXS and Q2_K, attention, shared expert and head Q8_0.

Everything is arithmetic from the shapes in src/model (flash_config) and the block sizes in src/tensor; nothing here is
measured except the copy bandwidths marked so in DEVICES. GB = 1e9 bytes, GiB = 2**30.

    python3 tools/roofline.py            (no dependencies)
"""
import math

# ---- shapes -----------------------------------------------------------------
L, D, V = 43, 4096, 129280
H, HD, ROT = 64, 512, 64
QL, OL, OG = 1024, 1024, 8
E, K, F = 256, 6, 2048
SWA, TOPK = 128, 512
IH, ID = 64, 128
HC = 4
L4 = len([i for i in range(2, L) if i % 2 == 0])     # ratio-4  (CSA) layers
L128 = len([i for i in range(2, L) if i % 2 == 1])   # ratio-128 (HCA) layers
assert (L4, L128) == (21, 20)
HCMIX = 2 * HC + HC * HC

# ---- storage bytes per weight -------------------------------------------------
BPW = {"q8_0": 34 / 32, "f16": 2.0, "f32": 4.0,
       "iq2_xxs": 66 / 256, "q2_k": 84 / 256, "i32": 4.0}

# name, type, params per instance, instances, fraction read per decoded token
T = []
def add(name, typ, params, n, frac=1.0, grp=None):
    T.append((grp or name, name, typ, params, n, frac))

add("q_a  4096x1024", "q8_0", D * QL, L, grp="attn proj (q8_0)")
add("q_b  1024x32768", "q8_0", QL * H * HD, L, grp="attn proj (q8_0)")
add("kv   4096x512", "q8_0", D * HD, L, grp="attn proj (q8_0)")
add("o_a  8 groups 4096x1024", "q8_0", (H // OG) * HD * OG * OL, L, grp="attn proj (q8_0)")
add("o_b  8192x4096", "q8_0", OG * OL * D, L, grp="attn proj (q8_0)")
add("shared expert gate/up/down", "q8_0", 3 * D * F, L, grp="shared expert (q8_0)")
add("output head", "q8_0", D * V, 1, grp="output head (q8_0)")
add("routed gate+up", "iq2_xxs", 2 * D * F * E, L, K / E, "routed experts (iq2_xxs/q2_k)")
add("routed down", "q2_k", D * F * E, L, K / E, "routed experts (iq2_xxs/q2_k)")
add("attn compressor r4 kv+gate", "f16", 2 * D * 2 * HD, L4, grp="compressors (f16)")
add("attn compressor r128 kv+gate", "f16", 2 * D * HD, L128, grp="compressors (f16)")
add("indexer compressor kv+gate", "f16", 2 * D * 2 * ID, L4, grp="compressors (f16)")
add("indexer q_b 1024x8192", "f16", QL * IH * ID, L4, grp="indexer proj (f16)")
add("indexer head weights", "f16", D * IH, L4, grp="indexer proj (f16)")
add("router 4096x256", "f16", D * E, L, grp="router + mHC (f16)")
add("mHC fn 16384x24 x2", "f16", 2 * HC * D * HCMIX, L, grp="router + mHC (f16)")
add("output mHC fn", "f16", HC * D * HC, 1, grp="router + mHC (f16)")
add("APE tables", "f16", 4 * 2 * HD + 4 * 2 * ID, L4, grp="small (f32/f16)")
add("APE tables r128", "f16", 128 * HD, L128, 1 / 128, grp="small (f32/f16)")
add("norms/sinks/bases", "f32", 2 * D + QL + HD + H + E + 2 * (3 + HCMIX), L, grp="small (f32/f16)")
add("token embedding", "f16", D * V, 1, 1 / V, grp="token embedding (f16)")
add("hash-route table", "i32", K * V, 3, 1 / V, grp="hash-route table (i32)")

def total_bytes():  return sum(BPW[t] * p * n for _, _, t, p, n, _ in T)
def decode_bytes(): return sum(BPW[t] * p * n * f for _, _, t, p, n, f in T)
def groups():
    out = {}
    for g, _, t, p, n, f in T:
        a = out.setdefault(g, [0, 0.0, 0.0, 0.0])
        a[0] += p * n; a[1] += BPW[t] * p * n; a[2] += BPW[t] * p * n * f
        a[3] += 2 * p * n * f
    return out
W = decode_bytes()
EXP_ALL_LAYERS = (2 * BPW["iq2_xxs"] + BPW["q2_k"]) * D * F * L   # one expert in each layer
DENSE = W - K * EXP_ALL_LAYERS

# ---- KV formats: (kv row bytes, indexer key bytes) ---------------------------
FMT = {"F32": (HD * 4, ID * 4), "BF16": (HD * 2, ID * 2),
       "FP8 583B + idx FP8 132B": ((HD - ROT) + (HD - ROT) // 64 + 2 * ROT, ID + 4),
       "FP8 583B + idx FP4 68B": ((HD - ROT) + (HD - ROT) // 64 + 2 * ROT, ID // 2 + ID // 32)}
def kv_read(n, fmt):
    r, ix = FMT[fmt]
    c4, c128 = n // 4, n // 128
    swa = L * min(n, SWA) * r
    a4 = L4 * min(c4, TOPK) * r
    a128 = L128 * c128 * r
    idx = L4 * (c4 if c4 > TOPK else 0) * ix
    return swa, a4, a128, idx
def kv_store(n, fmt):
    r, ix = FMT[fmt]
    return L * SWA * r + L4 * (n // 4) * (r + ix) + L128 * (n // 128) * r
CTX = [2048, 32768, 131072, 1048576]
def cn(n): return f"{n // 1024}k" if n < 1 << 20 else "1M"

# ---- FLOPs -------------------------------------------------------------------
def lin_flops(head=False):
    s = 0.0
    for g, name, t, p, n, f in T:
        if name in ("token embedding", "hash-route table", "norms/sinks/bases") or name.startswith("APE"):
            continue
        if name == "output head" and not head:
            continue
        s += 2 * p * n * f
    return s
PER_ROW = 4 * H * HD                       # QK + PV, 64 heads x 512
def attn_flops(p):
    return (L * min(p, SWA) * PER_ROW, L4 * min(p // 4, TOPK) * PER_ROW,
            L128 * (p // 128) * PER_ROW, L4 * (p // 4 if p // 4 > TOPK else 0) * 2 * IH * ID)
def mean_attn(n, step=None):
    step = step or max(1, n // 4096)
    acc = [0.0] * 4; c = 0
    for p in range(step // 2, n, step):
        for i, x in enumerate(attn_flops(p)): acc[i] += x
        c += 1
    return [x / c for x in acc]

# ---- devices: name, GB/s, note -------------------------------------------------
DEVICES = [("H200", 4300, "measured copy"), ("H100", 3000, "measured copy"),
           ("M3 Max", 400, "spec"), ("DGX Spark", 273, "spec"), ("EPYC 12ch DDR5", 460, "spec")]

def hdr(s): print(f"\n== {s}")
hdr("1. Model bytes, bytes read per decoded token, MACs (q2 GGUF)")
print(f"{'component':34s} {'params':>10s} {'stored GB':>10s} {'GB/token':>9s} {'%':>5s} {'GFLOP/tok':>9s}")
for g, (p, b, d, fl) in groups().items():
    print(f"{g:34s} {p/1e9:9.3f}B {b/1e9:10.3f} {d/1e9:9.4f} {100*d/W:5.1f} {fl/1e9:9.3f}")
print(f"{'TOTAL':34s} {sum(x[0] for x in groups().values())/1e9:9.3f}B {total_bytes()/1e9:10.3f} {W/1e9:9.4f}")
print(f"stored {total_bytes()/2**30:.2f} GiB (the published file has 86,720,111,488 B with its header); "
      f"dense+fixed {DENSE/1e9:.3f} GB/token, one expert in every layer {EXP_ALL_LAYERS/1e9:.4f} GB, "
      f"one expert {EXP_ALL_LAYERS/L/1e6:.3f} MB")

hdr("2. KV + indexer bytes READ per decoded token (MB): swa / csa top-512 / hca / indexer keys = total; stored cache")
for f in FMT:
    for n in CTX:
        s = kv_read(n, f)
        print(f"{f:26s} {cn(n):>5s}  {s[0]/1e6:6.1f} {s[1]/1e6:6.1f} {s[2]/1e6:7.1f} {s[3]/1e6:8.1f} = {sum(s)/1e6:8.1f}   stored {kv_store(n,f)/1e9:7.3f} GB")

hdr("3. Decode floor, ms/token -> t/s (weights + KV read once, nothing else)")
for f in ("F32", "FP8 583B + idx FP8 132B"):
    print(f"-- KV format {f}")
    print(f"{'device':24s}" + "".join(f"{cn(n):>18s}" for n in CTX))
    for d, bw, note in DEVICES:
        row = ""
        for n in CTX:
            ms = (W + sum(kv_read(n, f))) / bw / 1e6
            row += f"{ms:8.2f} ->{1e3/ms:7.1f}"
        print(f"{d+' '+str(bw)+' GB/s':24s}{row}")

hdr("4. Prefill FLOPs per token (GFLOP), mean over a prompt of N tokens")
lf = lin_flops()
print(f"linear layers (no head) {lf/1e9:.2f}; head (last token only) {2*D*V/1e9:.2f}")
print(f"{'N':>5s} {'linear':>8s} {'swa':>6s} {'csa':>6s} {'hca':>6s} {'indexer':>8s} {'total':>8s} {'t/s @790 TF':>12s} {'idx at 2x rate':>15s}")
for n in CTX:
    a = mean_attn(n); tot = lf + sum(a)
    print(f"{cn(n):>5s} {lf/1e9:8.2f} {a[0]/1e9:6.2f} {a[1]/1e9:6.2f} {a[2]/1e9:6.2f} {a[3]/1e9:8.2f} {tot/1e9:8.2f} {790e12/tot:12.0f} {790e12/(tot-a[3]/2):15.0f}")
print("at position p (marginal): " + "; ".join(
    f"{cn(n)} {(lf+sum(attn_flops(n-1)))/1e9:.1f} GF -> {790e12/(lf+sum(attn_flops(n-1))):.0f} t/s" for n in CTX))
print("weight-stream bound (all experts touched once per chunk): " + "; ".join(
    f"chunk {c}: H200 {c/((total_bytes()-BPW['f16']*D*V)/4.3e12):.0f} t/s, H100 {c/((total_bytes()-BPW['f16']*D*V)/3.0e12):.0f} t/s" for c in (512, 2048, 4096)))

hdr("5. Speculative verification: bytes for k rows (distinct experts, uniform routing) and ideal speed-up")
DRAFT = 3 * (140.4e6 + 20e6 + 29.3 * EXP_ALL_LAYERS / L) + BPW["q8_0"] * D * V   # estimate: 3-layer DSpark block + head
print(f"drafter estimate {DRAFT/1e9:.2f} GB per 5-token block")
for k in (1, 2, 3, 5, 6, 8):
    u = E * (1 - (1 - K / E) ** k)
    b = DENSE + u * EXP_ALL_LAYERS
    al = "  ".join(f"AL {a}: {a*W/(b+(DRAFT if k>1 else 0)):.2f}x" for a in (2.2, 2.8, 3.5, 4.0) if a <= k)
    print(f"k={k}: {u:5.1f} experts/layer, {b/1e9:6.2f} GB, cost {b/W:4.2f} steps (+draft {(b+DRAFT)/W:4.2f})  {al}")

hdr("6. Single-H100 residency (78 GiB usable)")
cap = 78 * 2**30
need = total_bytes() - BPW["f16"] * D * V          # embedding table on the host
for work in (0.6e9, 1.2e9, 2.0e9):
    short = need + work - cap
    frac = short / (E * EXP_ALL_LAYERS)
    print(f"KV+workspace {work/1e9:.1f} GB: short by {short/1e9:.2f} GB = {100*frac:.1f}% of experts off-GPU; "
          + ", ".join(f"miss rate {m}% -> +{K*EXP_ALL_LAYERS*m/100/55e9*1e3:.2f} ms/token over 55 GB/s PCIe5" for m in (0.5, 1, 2, 5)))
