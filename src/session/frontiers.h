// Frontiers: the points of one timeline that can be returned to without computing.
//
// Kept under a budget of bytes: the newest few densely, older ones spaced in proportion to their
// distance from the end, so that going back by n tokens replays a fraction of n. Marked points
// (turn ends) go last.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace narwhal {

struct KeptFrontier {
  int64_t position = 0;
  bool marked = false;
  std::shared_ptr<const std::vector<std::byte>> image;  // shared between forks
};

class Frontiers {
 public:
  explicit Frontiers(int64_t budget_bytes) : budget_bytes_(budget_bytes) {}

  // The one with the largest position <= limit, or null.
  const KeptFrontier* nearest(int64_t limit) const;
  bool has(int64_t position) const;

  // Adds one, or marks the one already there; drops others when over the budget.
  void keep(KeptFrontier frontier);
  // Forgets all past n_tokens.
  void truncate(int64_t n_tokens);
  // Those at or before n_tokens of another timeline with the same tokens so far.
  void inherit(const Frontiers& other, int64_t n_tokens);

  int64_t n_bytes() const;
  const std::vector<KeptFrontier>& all() const { return kept_; }  // ascending

 private:
  void drop_one();
  int64_t budget_bytes_;
  std::vector<KeptFrontier> kept_;
};

}  // namespace narwhal
