// The disk side of a timeline. Rows go out in whole blocks, each stored once for all conversations;
// a frontier at a multiple of 128 goes out with the rows between the last block border and itself,
// so that a prefix can be resumed within 128 tokens of where it ended. Nothing here can fail a
// request: what cannot be written is left out, what cannot be read is computed again.
#include <algorithm>

#include "session/state_image.h"
#include "session/timeline.h"

namespace narwhal {
namespace {

constexpr int64_t kBlockTokens = 2048;
constexpr int64_t kGrain = 128;
constexpr int64_t kFewestRows = 64;       // a step of fewer is decoding, whose speed says nothing
constexpr int64_t kTokensPerNote = 4096;  // a note is a transaction

}  // namespace

bool Timeline::restore_from(KvStore::Hit& hit, std::span<const int32_t> tokens) {
  const int64_t position = hit.n_tokens(), border = hit.n_blocks() * kBlockTokens;
  {
    std::lock_guard lock(host_.mutex);
    tokens_.clear();
    truncate(0);
    if (!host_.cache.prepare(slot_, 0, position).ok()) return false;
  }
  const int64_t frontier_bytes = frontier_image_bytes(host_.config, host_.layout, position);
  const int64_t tail_bytes = rows_image_bytes(host_.layout, border, position);
  std::vector<std::byte> bytes(rows_image_bytes(host_.layout, 0, kBlockTokens));
  bool good = static_cast<int64_t>(hit.frontier_bytes()) == frontier_bytes + tail_bytes;
  // Reading happens outside the lock: other sessions compute meanwhile.
  for (int i = 0; good && i < hit.n_blocks(); i++) {
    good = host_.store->read_block(hit, i, bytes).ok();
    std::lock_guard lock(host_.mutex);
    if (good)
      load_rows(host_.config, host_.layout, host_.cache.memory(), host_.backend, slot_,
                i * kBlockTokens, (i + 1) * kBlockTokens, bytes);
  }
  auto image = std::make_shared<std::vector<std::byte>>(frontier_bytes);
  bytes.resize(tail_bytes);
  const std::span<std::byte> pieces[] = {*image, bytes};
  good = good && host_.store->read_frontier(hit, pieces).ok();

  std::lock_guard lock(host_.mutex);
  if (!good) {
    host_.store->discard(hit);
    truncate(0);
    return false;
  }
  const KvMemory memory = host_.cache.memory();
  load_rows(host_.config, host_.layout, memory, host_.backend, slot_, border, position, bytes);
  load_frontier(host_.config, host_.layout, memory, host_.backend, slot_, position, *image);
  tokens_.assign(tokens.begin(), tokens.begin() + position);
  loaded_ = newest_ = position;
  frontiers_.keep({position, true, std::move(image)});
  return true;
}

void Timeline::persist_blocks() {
  const std::span<const int32_t> tokens = tokens_;
  std::vector<std::byte> rows;
  for (int64_t begin = host_.store->stored_prefix(tokens); begin + kBlockTokens <= size();
       begin += kBlockTokens) {
    rows.resize(rows_image_bytes(host_.layout, 0, kBlockTokens));
    save_rows(host_.config, host_.layout, host_.cache.memory(), host_.backend, slot_, begin,
              begin + kBlockTokens, rows);
    host_.store->put_block(tokens.first(begin + kBlockTokens), rows);
  }
}

// Eviction weighs what a prompt would cost to compute again.
void Timeline::note_prefill(SessionHost& host, int64_t n_tokens, double seconds) {
  if (!host.store || n_tokens < kFewestRows) return;
  host.prefill_tokens += n_tokens;
  host.prefill_seconds += seconds;
  if (host.prefill_tokens < kTokensPerNote) return;
  host.store->note_prefill(host.prefill_tokens, host.prefill_seconds);
  host.prefill_tokens = 0;
  host.prefill_seconds = 0;
}

// The newest kept frontier that lies on the grain.
void Timeline::persist_frontier(FrontierKind kind) {
  if (!host_.store) return;
  persist_blocks();
  const auto& all = frontiers_.all();
  const auto newest = std::find_if(all.rbegin(), all.rend(),
                                   [](const auto& f) { return f.position % kGrain == 0; });
  if (newest == all.rend()) return;
  const int64_t position = newest->position, border = position / kBlockTokens * kBlockTokens;
  const auto prefix = std::span<const int32_t>(tokens_).first(position);
  if (!host_.store->wants_frontier(prefix, kind)) return;
  std::vector<std::byte> tail(rows_image_bytes(host_.layout, border, position));
  save_rows(host_.config, host_.layout, host_.cache.memory(), host_.backend, slot_, border,
            position, tail);
  const std::span<const std::byte> pieces[] = {*newest->image, tail};
  host_.store->put_frontier(prefix, pieces, kind, conversation_);
}

}  // namespace narwhal
