// Numbers as they are written, and automata for those within bounds.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/dfa.h"
#include "narwhal/status.h"

namespace narwhal::grammar {

// An exact decimal: integer and fraction digits without zeros at the outer ends, so equal values
// are equal member by member. Zero has no digits and is not negative.
struct Decimal {
  bool is_negative = false;
  std::string whole, fraction;

  // A JSON number. kUsage when it has more than 400 digits.
  static Result<Decimal> parse(std::string_view lexeme);
  bool is_integer() const { return fraction.empty(); }
  bool is_zero() const { return whole.empty() && fraction.empty(); }
  std::string text() const;

  friend bool operator==(const Decimal&, const Decimal&) = default;
};
// -1, 0, 1
int compare(const Decimal& a, const Decimal& b);

struct NumberBounds {
  struct Bound {
    Decimal value;
    bool is_open = false;  // the value itself is outside
  };
  bool is_integer = false;
  std::optional<Bound> low, high;
  std::vector<Decimal> multiples_of;

  bool is_bounded() const { return low || high || !multiples_of.empty(); }
  // The stricter of both.
  void intersect(const NumberBounds& other);
  bool is_empty() const;  // low above high
  bool contains(const Decimal& value) const;
};

// JSON numbers within bounds. Without bounds: up to 25 integer digits, 25 fraction digits and an
// exponent of two digits. With bounds, multiples and for integers: no exponent. Integers are
// written without a fraction. kUsage when multiples need too large an automaton.
Result<Dfa> number_dfa(const NumberBounds& bounds);

}  // namespace narwhal::grammar
