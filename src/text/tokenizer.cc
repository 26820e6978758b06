#include "text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <set>

#include "base/check.h"
#include "text/splitter.h"

namespace narwhal::text {
namespace {

// Remembers, for short pieces of one text, where their ids already stand in the output. Direct
// mapped; a piece that lands on another's place replaces it.
class PieceCache {
 public:
  explicit PieceCache(size_t n_bytes)
      : entries_(std::bit_ceil(std::clamp<size_t>(n_bytes / 8, 16, 1 << 14))) {}

  static bool takes(std::string_view piece) { return piece.size() <= kMaxBytes; }

  struct Entry {
    char bytes[15];
    uint8_t size = 0;
    uint32_t n_ids;
    size_t at;  // index of the first id
  };
  // The entry of this piece, or the place to remember it (size does not match).
  Entry& entry(std::string_view piece) {
    uint64_t a = 0, b = 0;
    std::memcpy(&a, piece.data(), std::min<size_t>(piece.size(), 8));
    if (piece.size() > 8) std::memcpy(&b, piece.data() + 8, piece.size() - 8);
    const uint64_t h = (a ^ (b + piece.size()) * 0xC2B2AE3D27D4EB4Fu) * 0x9E3779B97F4A7C15u;
    return entries_[(h >> 40) & (entries_.size() - 1)];
  }
  static bool holds(const Entry& e, std::string_view piece) {
    return e.size == piece.size() && std::memcmp(e.bytes, piece.data(), piece.size()) == 0;
  }
  static void remember(Entry& e, std::string_view piece, size_t at, size_t n_ids) {
    std::memcpy(e.bytes, piece.data(), piece.size());
    e.size = static_cast<uint8_t>(piece.size());
    e.at = at;
    e.n_ids = static_cast<uint32_t>(n_ids);
  }

 private:
  static constexpr size_t kMaxBytes = sizeof(Entry::bytes);
  std::vector<Entry> entries_;
};

}  // namespace

Result<Tokenizer> Tokenizer::create(const Vocab& vocab) {
  if (vocab.tokens.empty() || vocab.tokens.size() != vocab.types.size() ||
      vocab.tokens.size() > INT32_MAX)
    return bad_input(fmt::format("vocabulary: {} tokens and {} token types, expected equal counts",
                                 vocab.tokens.size(), vocab.types.size()));
  Tokenizer t;
  Index base;
  NW_TRY(t.add_tokens(vocab, base));
  NW_TRY(t.add_merges(vocab, base));
  const auto named = [&](int32_t given, std::string_view name) {
    return given >= 0 ? given : t.id_of(name);
  };
  t.bos_ = named(vocab.bos, kBosName);
  t.eos_ = named(vocab.eos, kEosName);
  t.pad_ = named(vocab.pad, kPadName);
  const auto in_range = [&](int32_t id) { return id >= 0 && id < t.vocab_size(); };
  if (!in_range(t.bos_) || !in_range(t.eos_) || t.pad_ >= t.vocab_size())
    return bad_input(fmt::format(
        "vocabulary: begin, end and pad of sentence are {}, {} and {} (-1: not found), expected "
        "ids below {}; the file is no DeepSeek V4 vocabulary",
        t.bos_, t.eos_, t.pad_, t.vocab_size()));
  return t;
}

Status Tokenizer::add_tokens(const Vocab& vocab, Index& base) {
  const size_t n = vocab.tokens.size();
  offsets_.push_back(0);
  is_control_.resize(n);
  for (size_t i = 0; i < n; i++) {
    is_control_[i] = vocab.types[i] != Vocab::kNormal;
    std::string bytes = vocab.tokens[i];
    if (!is_control_[i]) {
      auto mapped = from_printable(bytes);
      if (!mapped)
        return bad_input(fmt::format(
            "vocabulary: token {} \"{}\" is not in the byte alphabet; should it be a control?", i,
            bytes));
      bytes = *std::move(mapped);
    }
    if (bytes.empty()) return bad_input(fmt::format("vocabulary: token {} is empty", i));
    blob_.insert(blob_.end(), bytes.begin(), bytes.end());
    offsets_.push_back(blob_.size());
  }
  std::set<size_t, std::greater<>> lengths;
  byte_ids_.fill(-1);
  base.reserve(n);
  for (int32_t id = 0; id < vocab_size(); id++) {
    const std::string_view token = bytes(id);
    const auto first = static_cast<uint8_t>(token[0]);
    if (!(is_control_[id] ? added_ : base).emplace(token, id).second)
      return bad_input(
          fmt::format("vocabulary: token {} \"{}\" is there twice", id, vocab.tokens[id]));
    if (is_control_[id]) {
      begins_added_[first] = true;
      lengths.insert(token.size());
    } else if (token.size() == 1) {
      byte_ids_[first] = id;
    }
  }
  added_lengths_.assign(lengths.begin(), lengths.end());
  for (int b = 0; b < 256; b++)
    if (byte_ids_[b] < 0)
      return bad_input(
          fmt::format("vocabulary: no token for byte 0x{:02x}; all 256 are needed", b));
  return ok_status();
}

Status Tokenizer::add_merges(const Vocab& vocab, const Index& base) {
  merges_ = MergeTable(vocab.merges.size());
  for (size_t rank = 0; rank < vocab.merges.size(); rank++) {
    const std::string& merge = vocab.merges[rank];
    const size_t space = merge.find(' ');
    if (space == std::string::npos || merge.find(' ', space + 1) != std::string::npos)
      return bad_input(
          fmt::format("vocabulary: merge {} is \"{}\", expected two tokens and one "
                      "space between them",
                      rank, merge));
    const auto left = from_printable(std::string_view(merge).substr(0, space));
    const auto right = from_printable(std::string_view(merge).substr(space + 1));
    const auto find = [&](const std::string& s) {
      const auto at = base.find(s);
      return at == base.end() ? -1 : at->second;
    };
    const int32_t l = left ? find(*left) : -1, r = right ? find(*right) : -1;
    const int32_t joined = l >= 0 && r >= 0 ? find(*left + *right) : -1;
    if (joined < 0)
      return bad_input(fmt::format(
          "vocabulary: merge {} \"{}\" has no token for a part or for the whole", rank, merge));
    if (!merges_.add(l, r, {static_cast<int32_t>(rank), joined}))
      return bad_input(fmt::format("vocabulary: merge {} \"{}\" is there twice", rank, merge));
  }
  return ok_status();
}

void Tokenizer::encode_to(std::string_view text, std::vector<int32_t>& ids) const {
  PieceCache cache(text.size());
  BpeMerger merger(merges_, byte_ids_);
  for (size_t at = 0, end = 0; at < text.size(); at = end) {
    end = piece_end(text, at);
    const std::string_view piece = text.substr(at, end - at);
    if (piece.size() == 1) {
      ids.push_back(byte_ids_[static_cast<uint8_t>(piece[0])]);
      continue;
    }
    if (!PieceCache::takes(piece)) {
      merger.merge(piece, ids);
      continue;
    }
    auto& e = cache.entry(piece);
    if (PieceCache::holds(e, piece)) {
      for (uint32_t k = 0; k < e.n_ids; k++) ids.push_back(ids[e.at + k]);
    } else {
      const size_t before = ids.size();
      merger.merge(piece, ids);
      PieceCache::remember(e, piece, before, ids.size() - before);
    }
  }
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 4 + 1);
  encode_to(text, ids);
  return ids;
}

std::optional<Tokenizer::Match> Tokenizer::find_added(std::string_view text, size_t from) const {
  for (size_t i = from; i < text.size(); i++) {
    if (!begins_added_[static_cast<uint8_t>(text[i])]) continue;
    for (const size_t length : added_lengths_) {
      if (length > text.size() - i) continue;
      const auto found = added_.find(text.substr(i, length));
      if (found != added_.end()) return Match{i, length, found->second};
    }
  }
  return std::nullopt;
}

std::vector<int32_t> Tokenizer::encode_special(std::string_view text) const {
  std::vector<int32_t> ids;
  size_t at = 0;
  while (const auto match = find_added(text, at)) {
    encode_to(text.substr(at, match->begin - at), ids);
    ids.push_back(match->id);
    at = match->begin + match->length;
  }
  encode_to(text.substr(at), ids);
  return ids;
}

std::string_view Tokenizer::bytes(int32_t id) const {
  NW_CHECK(id >= 0 && id < vocab_size(), "token id {} of {}", id, vocab_size());
  return {blob_.data() + offsets_[id], offsets_[id + 1] - offsets_[id]};
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  std::string out;
  for (const int32_t id : ids) out += bytes(id);
  return out;
}

int32_t Tokenizer::id_of(std::string_view literal) const {
  const auto at = added_.find(literal);
  return at == added_.end() ? -1 : at->second;
}

bool Tokenizer::is_control(int32_t id) const {
  NW_CHECK(id >= 0 && id < vocab_size(), "token id {} of {}", id, vocab_size());
  return is_control_[id];
}

}  // namespace narwhal::text
