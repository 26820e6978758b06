// A timeline as one file:
//
//   magic "NWSNAP01" | u64 fingerprint | i64 n_tokens | i64 row tokens | i64 frontier bytes | u64
//   checksum i32 tokens | rows of tokens [0, row tokens) | frontier at n_tokens
//
// row tokens = n_tokens rounded up to 128: the last rows may not be closed yet and mean nothing
// then. The checksum (XXH3) covers all that follows the header.
#include <fmt/format.h>
#include <xxhash.h>

#include <cstring>

#include "base/file.h"
#include "session/state_image.h"
#include "session/timeline.h"

namespace narwhal {
namespace {

struct Header {
  char magic[8];
  uint64_t fingerprint;
  int64_t n_tokens;
  int64_t n_row_tokens;  // a multiple of 128, at least n_tokens
  int64_t frontier_bytes;
  uint64_t checksum;
};
constexpr char kMagic[8] = {'N', 'W', 'S', 'N', 'A', 'P', '0', '1'};

int64_t rows_end(int64_t n_tokens) { return (n_tokens + 127) / 128 * 128; }

}  // namespace

Status Timeline::snapshot(const std::string& path) const {
  std::lock_guard lock(host_.mutex);
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.fingerprint = host_.fingerprint;
  header.n_tokens = size();
  header.n_row_tokens = rows_end(size());
  header.frontier_bytes = frontier_image_bytes(host_.config, host_.layout, size());
  const int64_t token_bytes = size() * 4,
                row_bytes = rows_image_bytes(host_.layout, 0, header.n_row_tokens);
  std::vector<std::byte> body(token_bytes + row_bytes + header.frontier_bytes);
  std::memcpy(body.data(), tokens_.data(), token_bytes);
  const KvMemory memory = host_.cache.memory();
  save_rows(host_.config, host_.layout, memory, host_.backend, slot_, 0, header.n_row_tokens,
            std::span(body).subspan(token_bytes, row_bytes));
  save_frontier(host_.config, host_.layout, memory, host_.backend, slot_, size(),
                std::span(body).subspan(token_bytes + row_bytes));
  header.checksum = XXH3_64bits(body.data(), body.size());
  NW_ASSIGN(AtomicFile file, AtomicFile::create(path));
  NW_TRY(file.write_at(0, &header, sizeof header));
  NW_TRY(file.write_at(sizeof header, body.data(), body.size()));
  return file.commit();
}

Status Timeline::restore(const std::string& path) {
  NW_ASSIGN(const MappedFile file, MappedFile::open(path));
  const auto bytes = file.bytes();
  Header h{};
  if (bytes.size() < sizeof h) return bad_input(path + ": too short for a saved session");
  std::memcpy(&h, bytes.data(), sizeof h);
  if (std::memcmp(h.magic, kMagic, sizeof kMagic) != 0)
    return bad_input(path + ": not a saved session of this version; save it again");
  if (h.fingerprint != host_.fingerprint)
    return bad_input(
        path +
        ": saved with another model or KV precision; open it with the same -m and --kv-precision");
  if (h.n_tokens < 0 || h.n_tokens > host_.n_ctx)
    return usage(fmt::format("{}: {} tokens do not fit a context of {}; raise --ctx", path,
                             h.n_tokens, host_.n_ctx));
  const int64_t token_bytes = h.n_tokens * 4,
                row_bytes = rows_image_bytes(host_.layout, 0, rows_end(h.n_tokens));
  const auto body = bytes.subspan(sizeof h);
  if (h.n_row_tokens != rows_end(h.n_tokens) ||
      h.frontier_bytes != frontier_image_bytes(host_.config, host_.layout, h.n_tokens) ||
      static_cast<int64_t>(body.size()) != token_bytes + row_bytes + h.frontier_bytes)
    return bad_input(path + ": truncated or damaged; save the session again");
  if (XXH3_64bits(body.data(), body.size()) != h.checksum)
    return bad_input(path +
                     ": checksum does not match, the file is damaged; save the session again");
  std::vector<int32_t> tokens(h.n_tokens);
  std::memcpy(tokens.data(), body.data(), token_bytes);
  NW_TRY(check(tokens, 0));

  std::lock_guard lock(host_.mutex);
  truncate(0);
  tokens_.clear();
  NW_TRY(host_.cache.prepare(slot_, 0, h.n_row_tokens));
  const KvMemory memory = host_.cache.memory();
  load_rows(host_.config, host_.layout, memory, host_.backend, slot_, 0, h.n_row_tokens,
            body.subspan(token_bytes, row_bytes));
  load_frontier(host_.config, host_.layout, memory, host_.backend, slot_, h.n_tokens,
                body.subspan(token_bytes + row_bytes));
  tokens_ = std::move(tokens);
  loaded_ = newest_ = size();
  if (size() > 0) keep_frontier(true);
  return ok_status();
}

}  // namespace narwhal
