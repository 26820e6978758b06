#include "eval/world.h"

#include <fmt/format.h>

namespace narwhal::eval {
namespace {

std::string digits(Dice& dice, int n) {
  std::string s;
  while (n-- > 0) s += static_cast<char>('0' + dice.below(10));
  return s;
}

// The value of a {key} of a filler sentence; name2 and its like draw from the same list as name.
std::string_view filling(Dice& dice, std::string_view key) {
  if (key.ends_with('2')) key.remove_suffix(1);
  if (key == "adj") return dice.pick(kAdj);
  if (key == "animal") return dice.pick(kAnimals);
  if (key == "place") return dice.pick(kPlaces);
  if (key == "name") return dice.pick(kNames);
  if (key == "sky") return dice.pick(kSky);
  if (key == "colour") return dice.pick(kColours);
  if (key == "object") return dice.pick(kObjects);
  if (key == "day") return dice.pick(kDays);
  if (key == "noun") return dice.pick(kNouns);
  if (key == "month") return dice.pick(kMonths);
  if (key == "food") return dice.pick(kFoods);
  if (key == "job") return dice.pick(kJobs);
  return dice.pick(kNums.subspan(2));
}

}  // namespace

std::string made_up(Dice& dice, int parts) {
  std::string s;
  for (int i = 0; i < parts; i++) {
    s += dice.pick(kOn);
    s += dice.pick(kVo);
  }
  return s += dice.pick(kCo);
}

std::string capital(std::string word) {
  if (word[0] >= 'a' && word[0] <= 'z') word[0] -= 'a' - 'A';
  return word;
}

std::string lower(std::string_view word) {
  std::string s(word);
  for (char& c : s)
    if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
  return s;
}

std::string person(Dice& dice) {
  return dice.chance(0.75) ? std::string(dice.pick(kNames)) : capital(made_up(dice));
}

std::string town(Dice& dice) {
  return dice.chance(0.6) ? std::string(dice.pick(kTowns)) : capital(made_up(dice));
}

std::string with_article(std::string_view word) {
  const bool vowel = std::string_view("aeiou").find(word[0]) != std::string_view::npos;
  return fmt::format("{} {}", vowel ? "an" : "a", word);
}

std::string joined(const std::vector<std::string>& parts, std::string_view between) {
  return fmt::format("{}", fmt::join(parts, between));
}

std::string filler(Dice& dice) {
  const std::string_view pattern = dice.pick(kFillers);
  std::string out;
  for (size_t at = 0; at < pattern.size();) {
    const size_t open = std::min(pattern.find('{', at), pattern.size());
    out += pattern.substr(at, open - at);
    if (open == pattern.size()) break;
    const size_t close = pattern.find('}', open);
    out += filling(dice, pattern.substr(open + 1, close - open - 1));
    at = close + 1;
  }
  return out;
}

std::string random_code(Dice& dice) {
  constexpr std::string_view kMixed = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const int n = dice.between(4, 6);
  if (dice.chance(0.5)) return digits(dice, n);
  std::string s;
  for (int i = 0; i < n; i++) s += kMixed[dice.below(static_cast<int>(kMixed.size()))];
  return s;
}

Fact make_fact(Dice& d, FactKind kind) {
  using fmt::format;
  const auto either = [&d](const std::string& a, const std::string& b) {
    return d.chance(0.5) ? a : b;
  };
  const std::string n = person(d);
  switch (kind) {
    case FactKind::kFavourite: {
      constexpr std::string_view kWhat[] = {"colour", "food", "animal", "day", "month"};
      const Words pools[] = {kColours, kFoods, kAnimals, kDays, kMonths};
      const int which = d.below(5);
      const std::string_view what = kWhat[which];
      const std::string v(d.pick(pools[which]));
      return {either(format("{}'s favourite {} is {}.", n, what, v),
                     format("The {} that {} likes best is {}.", what, n, v)),
              either(format("What is {}'s favourite {}?", n, what),
                     format("Which {} does {} like best?", what, n)),
              format("{}'s favourite {} is {}.", n, what, v), v, format("{}/{}", n, what)};
    }
    case FactKind::kHome: {
      const std::string v = town(d);
      return {either(format("{} lives in {}.", n, v), format("The home of {} is in {}.", n, v)),
              either(format("Where does {} live?", n), format("In which town does {} live?", n)),
              format("{} lives in {}.", n, v), v, n + "/home"};
    }
    case FactKind::kJob: {
      const std::string v(d.pick(kJobs));
      return {either(format("{} works as a {}.", n, v), format("{} is a {} by trade.", n, v)),
              either(format("What is {}'s job?", n), format("What does {} work as?", n)),
              format("{} works as a {}.", n, v), v, n + "/job"};
    }
    case FactKind::kCode: {
      const std::string x = format("{} {}", d.pick(kColours), d.pick(kObjects));
      const std::string v = random_code(d);
      return {
          either(format("The code of the {} is {}.", x, v),
                 format("To open the {}, use the code {}.", x, v)),
          either(format("What is the code of the {}?", x), format("Which code opens the {}?", x)),
          format("The code of the {} is {}.", x, v), v, x + "/code"};
    }
    case FactKind::kPassword: {
      const std::string x(d.pick(kPlaces)), v = format("{}-{}", d.pick(kNouns), d.pick(kNouns));
      return {either(format("The password for the {} is {}.", x, v),
                     format("Whoever enters the {} must say the password {}.", x, v)),
              either(format("What is the password for the {}?", x),
                     format("Which password does the {} have?", x)),
              format("The password for the {} is {}.", x, v), v, x + "/password"};
    }
    case FactKind::kHidden: {
      const std::string x = format("{} {}", d.pick(kAdj), d.pick(kObjects)), v(d.pick(kPlaces));
      return {either(format("The {} is hidden in the {}.", x, v),
                     format("{} hid the {} in the {}.", d.pick(kNames), x, v)),
              either(format("Where is the {}?", x), format("Where is the {} hidden?", x)),
              format("The {} is hidden in the {}.", x, v), v, x + "/where"};
    }
    case FactKind::kPhone: {
      const std::string v = format("{}-{}", digits(d, 3), digits(d, 4));
      return {format("{}'s phone number is {}.", n, v),
              either(format("What is {}'s phone number?", n),
                     format("Which phone number does {} have?", n)),
              format("{}'s phone number is {}.", n, v), v, n + "/phone"};
    }
    case FactKind::kPet: {
      const std::string x(d.pick(kAnimals)), v = person(d);
      return {either(format("{} has {} called {}.", n, with_article(x), v),
                     format("{} gave the name {} to a young {}.", n, v, x)),
              either(format("What is the name of {}'s {}?", n, x),
                     format("What is {}'s {} called?", n, x)),
              format("{}'s {} is called {}.", n, x, v), v, format("{}/{}", n, x)};
    }
    case FactKind::kPrice: {
      const std::string x = format("{} {}", d.pick(kAdj), d.pick(kObjects));
      const std::string v = std::to_string(d.between(2, 999));
      return {either(format("The {} costs {} coins.", x, v),
                     format("You can buy the {} for {} coins.", x, v)),
              either(format("How much does the {} cost?", x),
                     format("What is the price of the {}?", x)),
              format("The {} costs {} coins.", x, v), v, x + "/price"};
    }
    case FactKind::kTrain: {
      const std::string x = town(d), v = format("{:02}:{:02}", d.below(24), d.below(60));
      return {either(format("The train to {} leaves at {}.", x, v),
                     format("At {} the train to {} leaves.", v, x)),
              either(format("When does the train to {} leave?", x),
                     format("At what time does the train to {} leave?", x)),
              format("The train to {} leaves at {}.", x, v), v, x + "/train"};
    }
    case FactKind::kSecret: {
      constexpr std::string_view kWhat[] = {"secret word", "magic word", "key word", "code name"};
      const std::string v = made_up(d, d.between(2, 3)), x(d.pick(kWhat));
      return {format("The {} is {}.", x, v),
              either(format("What is the {}?", x), format("Tell me the {}.", x)),
              format("The {} is {}.", x, v), v, x};
    }
    default: {
      const std::string v = std::to_string(d.between(5, 99));
      return {
          either(format("{} is {} years old.", n, v), format("{} has the age of {} years.", n, v)),
          either(format("How old is {}?", n), format("What is {}'s age?", n)),
          format("{} is {} years old.", n, v), v, n + "/age"};
    }
  }
}

Fact any_fact(Dice& dice) {
  return make_fact(dice, FactKind(dice.below(static_cast<int>(FactKind::kCount))));
}

}  // namespace narwhal::eval
