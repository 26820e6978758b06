#include "grammar/formats.h"

#include <string>

namespace narwhal::grammar {
namespace {

// Every day of the calendar, 29 February in leap years only.
#define NW_DATE                                                                       \
  "(\\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|" \
  "02-(0[1-9]|1\\d|2[0-8]))|"                                                         \
  "(\\d\\d(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)"
#define NW_TIME "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,9})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)"
#define NW_LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define NW_BYTE "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"

struct Entry {
  std::string_view name, pattern;
};
constexpr Entry kPatterns[] = {
    {"date", "^" NW_DATE "$"},
    {"time", "^" NW_TIME "$"},
    {"date-time", "^" NW_DATE "T" NW_TIME "$"},
    {"duration",
     "^P((\\d{1,9}W)|(\\d{1,9}Y(\\d{1,9}M(\\d{1,9}D)?)?|\\d{1,9}M(\\d{1,9}D)?|\\d{1,9}D)"
     "(T(\\d{1,9}H(\\d{1,9}M(\\d{1,9}S)?)?|\\d{1,9}M(\\d{1,9}S)?|\\d{1,9}S))?|"
     "T(\\d{1,9}H(\\d{1,9}M(\\d{1,9}S)?)?|\\d{1,9}M(\\d{1,9}S)?|\\d{1,9}S))$"},
    {"uuid", "^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$"},
    {"email", "^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@" NW_LABEL
              "(\\." NW_LABEL "){1,3}$"},
    {"hostname", "^" NW_LABEL "(\\." NW_LABEL "){0,3}$"},
    {"ipv4", "^" NW_BYTE "(\\." NW_BYTE "){3}$"},
    {"uri",
     "^[A-Za-z][A-Za-z0-9+.-]*:(//)?([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+"
     "(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*"
     "(\\?([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?"
     "(#([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?$"},
};

struct IntegerEntry {
  std::string_view name;
  IntegerFormat bounds;
};
constexpr IntegerEntry kIntegers[] = {
    {"int32", {"-2147483648", "2147483647"}},
    {"int64", {"-9223372036854775808", "9223372036854775807"}},
    {"uint32", {"0", "4294967295"}},
    {"uint64", {"0", "18446744073709551615"}},
};

}  // namespace

std::string_view format_pattern(std::string_view format) {
  for (const Entry& e : kPatterns)
    if (e.name == format) return e.pattern;
  return {};
}

bool find_integer_format(std::string_view format, IntegerFormat& out) {
  for (const IntegerEntry& e : kIntegers) {
    if (e.name != format) continue;
    out = e.bounds;
    return true;
  }
  return false;
}

}  // namespace narwhal::grammar
