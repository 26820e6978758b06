#include "grammar/number.h"

#include <algorithm>
#include <cstdlib>
#include <tuple>

namespace narwhal::grammar {
namespace {

constexpr size_t kMaxDigits = 400;
constexpr size_t kUsualDigits = 25;
constexpr size_t kMaxStates = 60000;

int sign_of(const Decimal& d) { return d.is_zero() ? 0 : d.is_negative ? -1 : 1; }

int compare_magnitude(const Decimal& a, const Decimal& b) {
  if (a.whole.size() != b.whole.size()) return a.whole.size() < b.whole.size() ? -1 : 1;
  const int c = (a.whole + a.fraction).compare(b.whole + b.fraction);
  return c < 0 ? -1 : c > 0 ? 1 : 0;
}

// value mod divisor, both as whole numbers of units of 10^-scale; divisor fits.
uint64_t remainder(const Decimal& value, size_t scale, uint64_t divisor) {
  std::string digits = value.whole + value.fraction;
  digits.append(scale - value.fraction.size(), '0');
  uint64_t r = 0;
  for (const char c : digits) r = (r * 10 + static_cast<uint64_t>(c - '0')) % divisor;
  return r;
}

}  // namespace

Result<Decimal> Decimal::parse(std::string_view lexeme) {
  Decimal d;
  d.is_negative = lexeme.starts_with('-');
  if (d.is_negative) lexeme.remove_prefix(1);
  const size_t e = lexeme.find_first_of("eE");
  long exponent = 0;
  if (e != lexeme.npos) {
    exponent = std::strtol(std::string(lexeme.substr(e + 1)).c_str(), nullptr, 10);
    lexeme = lexeme.substr(0, e);
  }
  const size_t dot = lexeme.find('.');
  d.whole = lexeme.substr(0, dot);
  if (dot != lexeme.npos) d.fraction = lexeme.substr(dot + 1);
  const auto limit = static_cast<long>(kMaxDigits);
  if (exponent > limit || exponent < -limit || d.whole.size() + d.fraction.size() > kMaxDigits)
    return usage(fmt::format("a number of more than {} digits", kMaxDigits));
  for (; exponent > 0; exponent--) {
    d.whole += d.fraction.empty() ? '0' : d.fraction[0];
    if (!d.fraction.empty()) d.fraction.erase(0, 1);
  }
  for (; exponent < 0; exponent++) {
    d.fraction.insert(0, 1, d.whole.empty() ? '0' : d.whole.back());
    if (!d.whole.empty()) d.whole.pop_back();
  }
  d.whole.erase(0, std::min(d.whole.find_first_not_of('0'), d.whole.size()));
  d.fraction.erase(d.fraction.find_last_not_of('0') + 1);
  if (d.is_zero()) d.is_negative = false;
  return d;
}

std::string Decimal::text() const {
  return fmt::format("{}{}{}{}", is_negative ? "-" : "", whole.empty() ? "0" : whole,
                     fraction.empty() ? "" : ".", fraction);
}

int compare(const Decimal& a, const Decimal& b) {
  if (sign_of(a) != sign_of(b)) return sign_of(a) < sign_of(b) ? -1 : 1;
  return a.is_negative ? compare_magnitude(b, a) : compare_magnitude(a, b);
}

void NumberBounds::intersect(const NumberBounds& other) {
  is_integer |= other.is_integer;
  if (other.low) {
    const int c = low ? compare(other.low->value, low->value) : 1;
    if (c > 0 || (c == 0 && other.low->is_open)) low = other.low;
  }
  if (other.high) {
    const int c = high ? compare(other.high->value, high->value) : -1;
    if (c < 0 || (c == 0 && other.high->is_open)) high = other.high;
  }
  multiples_of.insert(multiples_of.end(), other.multiples_of.begin(), other.multiples_of.end());
}

bool NumberBounds::is_empty() const {
  if (!low || !high) return false;
  const int c = compare(low->value, high->value);
  return c > 0 || (c == 0 && (low->is_open || high->is_open));
}

bool NumberBounds::contains(const Decimal& value) const {
  if (is_integer && !value.is_integer()) return false;
  if (low && compare(value, low->value) < (low->is_open ? 1 : 0)) return false;
  if (high && compare(value, high->value) > (high->is_open ? -1 : 0)) return false;
  for (const Decimal& m : multiples_of) {
    const size_t scale = std::max(m.fraction.size(), value.fraction.size());
    std::string divisor = m.whole + m.fraction;
    divisor.append(scale - m.fraction.size(), '0');
    if (divisor.size() > 17 || remainder(value, scale, std::stoull(divisor)) != 0) return false;
  }
  return true;
}

namespace {

// One bound on the magnitude, compared digit by digit.
struct Limit {
  bool exists = false, is_open = false;
  std::string whole, fraction;
};

// The numbers of one sign: low <= magnitude <= high. `none`: no number of this sign fits.
struct Magnitudes {
  bool none = false;
  Limit low, high;
};

Magnitudes magnitudes(const NumberBounds& b, bool negative) {
  Magnitudes m;
  const auto& near = negative ? b.high : b.low;  // towards zero
  const auto& far = negative ? b.low : b.high;
  const auto limit_of = [](const NumberBounds::Bound& x) {
    return Limit{true, x.is_open, x.value.whole, x.value.fraction};
  };
  if (near && (near->value.is_zero() || near->value.is_negative == negative))
    m.low = limit_of(*near);
  if (far) {
    m.none = !far->value.is_zero() && far->value.is_negative != negative;
    if (!m.none) m.high = limit_of(*far);
  }
  return m;
}

enum Phase : uint8_t {
  kStart,
  kSigned,
  kZero,
  kWholeDigits,
  kDot,
  kFractionDigits,
  kE,
  kESign,
  kEDigits
};

struct Divisor {
  uint32_t value = 0;  // 0: none
  size_t scale = 0;    // of units of 10^-scale
};

// The recogniser of one number, as code for explore_dfa().
class NumberReader {
 public:
  struct State {
    uint8_t phase = kStart;
    bool negative = false;
    uint16_t n = 0;            // digits of the present part
    int8_t low = 0, high = 0;  // the magnitude so far against the limits
    uint32_t remainder = 0;
    bool operator<(const State& o) const {
      return std::tie(phase, negative, n, low, high, remainder) <
             std::tie(o.phase, o.negative, o.n, o.low, o.high, o.remainder);
    }
  };

  NumberReader(const NumberBounds& b, Divisor divisor)
      : is_integer_(b.is_integer),
        has_exponent_(!b.is_integer && !b.is_bounded()),
        divisor_(divisor) {
    for (const bool negative : {false, true}) {
      signs_[negative] = magnitudes(b, negative);
      for (const Limit* l : {&signs_[negative].low, &signs_[negative].high}) {
        max_whole_ = std::max(max_whole_, l->whole.size());
        max_fraction_ = std::max(max_fraction_, l->fraction.size() + 3);
      }
    }
    if (divisor_.value) max_fraction_ = divisor_.scale;
  }

  std::optional<State> step(const State& from, uint8_t byte) const {
    State s = from;
    const bool is_digit = byte >= '0' && byte <= '9';
    switch (from.phase) {
      case kStart:
        if (byte == '-') {
          s.phase = kSigned, s.negative = true;
          return s;
        }
        [[fallthrough]];
      case kSigned:
        if (!is_digit || signs_[s.negative].none) return std::nullopt;
        if (byte == '0') {
          if (s.negative && is_integer_) return std::nullopt;
          s.phase = kZero;
          return s;
        }
        s.phase = kWholeDigits;
        return whole_digit(s, byte);
      case kWholeDigits:
        if (is_digit && s.n < max_whole_) return whole_digit(s, byte);
        if (is_digit) return std::nullopt;
        [[fallthrough]];
      case kZero:
        if (byte == '.' && !is_integer_ && max_fraction_ > 0) {
          s = after_whole(s);
          s.phase = kDot;
          return s;
        }
        return exponent(s, byte);
      case kDot:
      case kFractionDigits:
        if (is_digit && s.n < max_fraction_) return fraction_digit(s, byte);
        return is_digit || from.phase == kDot ? std::nullopt : exponent(s, byte);
      case kE:
        if (byte == '+' || byte == '-') {
          s.phase = kESign;
          return s;
        }
        [[fallthrough]];
      case kESign:
      case kEDigits:
        if (!is_digit || s.n == 2) return std::nullopt;
        s.phase = kEDigits;
        s.n++;
        return s;
      default:
        return std::nullopt;
    }
  }

  bool accepts(const State& at) const {
    if (at.phase == kEDigits) return true;
    if (at.phase != kZero && at.phase != kWholeDigits && at.phase != kFractionDigits) return false;
    const State s = at.phase == kFractionDigits ? at : after_whole(at);
    const Magnitudes& m = signs_[s.negative];
    const int low = finished(m.low, s.low, s.n), high = finished(m.high, s.high, s.n);
    if (m.low.exists && low < (m.low.is_open ? 1 : 0)) return false;
    if (m.high.exists && high > (m.high.is_open ? -1 : 0)) return false;
    uint64_t r = s.remainder;
    for (size_t i = s.n; divisor_.value && i < divisor_.scale; i++) r = r * 10 % divisor_.value;
    return r == 0;
  }

 private:
  // Against digit i of a limit's digits, once all before were equal.
  static int8_t compared(int8_t before, const std::string& digits, size_t i, uint8_t byte) {
    if (before != 0) return before;
    const uint8_t other = i < digits.size() ? static_cast<uint8_t>(digits[i]) : '0';
    return byte < other ? -1 : byte > other ? 1 : 0;
  }

  State whole_digit(State s, uint8_t byte) const {
    const Magnitudes& m = signs_[s.negative];
    s.low = compared(s.low, m.low.whole, s.n, byte);
    s.high = compared(s.high, m.high.whole, s.n, byte);
    return counted(s, byte);
  }
  State fraction_digit(State s, uint8_t byte) const {
    const Magnitudes& m = signs_[s.negative];
    s.low = compared(s.low, m.low.fraction, s.n, byte);
    s.high = compared(s.high, m.high.fraction, s.n, byte);
    s.phase = kFractionDigits;
    return counted(s, byte);
  }
  State counted(State s, uint8_t byte) const {
    s.n++;
    if (divisor_.value)
      s.remainder =
          static_cast<uint32_t>((uint64_t{s.remainder} * 10 + (byte - '0')) % divisor_.value);
    return s;
  }

  // The number of whole digits decides before the digits do.
  State after_whole(State s) const {
    const auto against = [&s](const Limit& l, int8_t by_digits) -> int8_t {
      if (s.n == l.whole.size()) return by_digits;
      return s.n < l.whole.size() ? -1 : 1;
    };
    const Magnitudes& m = signs_[s.negative];
    s.low = against(m.low, s.low);
    s.high = against(m.high, s.high);
    s.n = 0;
    return s;
  }
  // With n fraction digits read, the limit may have more.
  static int finished(const Limit& l, int8_t so_far, size_t n) {
    return so_far == 0 && n < l.fraction.size() ? -1 : so_far;
  }

  std::optional<State> exponent(State s, uint8_t byte) const {
    if (!has_exponent_ || (byte != 'e' && byte != 'E')) return std::nullopt;
    s.phase = kE;
    s.n = 0;
    return s;
  }

  bool is_integer_, has_exponent_;
  Divisor divisor_;
  Magnitudes signs_[2];
  size_t max_whole_ = kUsualDigits, max_fraction_ = kUsualDigits;
};

// The one divisor that all multiples come down to.
Result<Divisor> divisor_of(const NumberBounds& b) {
  Divisor out;
  uint64_t value = 0;
  for (const Decimal& m : b.multiples_of) out.scale = std::max(out.scale, m.fraction.size());
  for (const Decimal& m : b.multiples_of) {
    std::string digits = m.whole + m.fraction;
    digits.append(out.scale - m.fraction.size(), '0');
    const uint64_t v = digits.size() > 9 ? 0 : std::strtoull(digits.c_str(), nullptr, 10);
    if (v == 0) return usage(fmt::format("a multiple of {} is not supported", m.text()));
    uint64_t a = value ? value : v, c = v;
    while (c) a %= c, std::swap(a, c);
    value = value ? value / a * v : v;
    if (value > kMaxStates)
      return usage(fmt::format("multiples of {} need too large an automaton", value));
  }
  out.value = static_cast<uint32_t>(value);
  return out;
}

}  // namespace

Result<Dfa> number_dfa(const NumberBounds& bounds) {
  NW_ASSIGN(const Divisor divisor, divisor_of(bounds));
  const NumberReader reader(bounds, divisor);
  std::vector<ByteRange> bytes = {{'+', '+'}, {'-', '-'}, {'.', '.'}};
  for (uint8_t d = '0'; d <= '9'; d++) bytes.push_back({d, d});
  bytes.push_back({'E', 'E'});
  bytes.push_back({'e', 'e'});
  return explore_dfa(
      NumberReader::State{}, bytes,
      [&](const NumberReader::State& s, uint8_t b) { return reader.step(s, b); },
      [&](const NumberReader::State& s) { return reader.accepts(s); }, kMaxStates);
}

}  // namespace narwhal::grammar
