#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "eval/cases.h"
#include "eval/world.h"

namespace narwhal::eval {
namespace {

std::vector<std::string> some_words(Dice& d, int low, int high) {
  const Words pools[] = {kNouns, kNouns, kAnimals, kObjects, kColours, kFoods};
  const Words pool = d.pick(pools);
  const auto some = d.some(pool, d.between(low, std::min(high, static_cast<int>(pool.size()))));
  return {some.begin(), some.end()};
}

std::string numbers_text(const std::vector<int>& numbers) {
  return fmt::format("{}", fmt::join(numbers, ", "));
}

int number_of_size(Dice& d, int size) {
  constexpr int kPowers[] = {1, 10, 100, 1000};
  return size == 1 ? d.below(10) : d.between(kPowers[size - 1], kPowers[size] - 1);
}

int n_digits(int n) { return static_cast<int>(std::to_string(n).size()); }

// "7 + 5 gives 2, carry 1. 4 + 8 + 1 gives 3, carry 1. So 132."
std::string column_by_column(int a, int b, char op, int result) {
  std::string why;
  int carry = 0;
  for (int w = std::max(n_digits(a), n_digits(b)); w > 0; w--, a /= 10, b /= 10) {
    const int x = a % 10, y = b % 10;
    const int v = op == '+' ? x + y + carry : x - y - carry;
    const int over = op == '+' ? v > 9 : v < 0;
    const int digit = op == '+' ? v - 10 * over : v + 10 * over;
    why += fmt::format("{} {} {}{} gives {}{} ", x, op, y, carry ? fmt::format(" {} 1", op) : "",
                       digit, over ? ", carry 1." : ".");
    carry = over;
  }
  return why + fmt::format("So {}.", result);
}

Exercise sum(Dice& d, char op) {
  const int size = d.between(1, op == '*' ? 2 : 3);
  int a = number_of_size(d, size),
      b = number_of_size(d, d.chance(2 / 3.) ? size : std::max(1, size - 1));
  if (op == '*') {
    a = d.below(13);
    b = d.below(13);
  }
  if (op == '-' && b > a) std::swap(a, b);
  const int result = op == '+' ? a + b : op == '-' ? a - b : a * b;
  const std::string word = op == '+'   ? fmt::format("Add {} and {}.", a, b)
                           : op == '-' ? fmt::format("Subtract {} from {}.", b, a)
                                       : fmt::format("Multiply {} by {}.", a, b);
  const std::string_view name = op == '+' ? "plus" : op == '-' ? "minus" : "times";
  const std::string asked[] = {fmt::format("What is {} {} {}?", a, op, b),
                               fmt::format("{} {} {} = ?", a, op, b),
                               fmt::format("Calculate {} {} {}.", a, op, b),
                               fmt::format("What is {} {} {}?", a, name, b),
                               word,
                               fmt::format("{}{}{}", a, op, b)};
  return {d.pick(asked), fmt::format("{} {} {} = {}.", a, op, b, result),
          op == '*' ? fmt::format("I know that {} * {} = {}.", a, b, result)
                    : column_by_column(a, b, op, result)};
}

Exercise copy(Dice& d) {
  constexpr std::string_view kAsked[] = {"Repeat this: ", "Copy this text: ", "Say exactly: "};
  const auto words = some_words(d, 3, 8);
  std::string text;
  switch (d.below(4)) {
    case 0:
      text = joined(words, ", ");
      break;
    case 1:
      text = joined(words, " ");
      break;
    case 2:
      text = filler(d);
      break;
    default:
      for (int n = d.between(3, 12); n > 0; n--) text += static_cast<char>('0' + d.below(10));
  }
  return {std::string(d.pick(kAsked)) + text, text, "I will repeat the text."};
}

Exercise sort_numbers(Dice& d) {
  constexpr std::string_view kAsked[] = {
      "Sort the numbers: ", "Sort these numbers: ", "Order from small to large: "};
  constexpr int kTops[] = {10, 100, 100, 1000};
  std::vector<int> numbers(d.pick(kTops) - 1);
  for (size_t i = 0; i < numbers.size(); i++) numbers[i] = static_cast<int>(i) + 1;
  numbers = d.some(std::span<const int>(numbers), d.between(3, 6));
  std::vector<int> sorted = numbers;
  std::sort(sorted.begin(), sorted.end());
  return {std::string(d.pick(kAsked)) + numbers_text(numbers), numbers_text(sorted),
          "I start with the smallest number."};
}

Exercise count_words(Dice& d) {
  const auto words = some_words(d, 2, 9);
  std::string why;
  for (size_t i = 0; i < words.size(); i++)
    why += fmt::format("{}{} {}.", i ? " " : "", words[i], i + 1);
  const std::string_view before =
      d.chance(0.5) ? "How many words are in this list: " : "Count the words: ";
  return {fmt::format("{}{}{}", before, joined(words, ", "), d.chance(0.5) ? "?" : ""),
          fmt::format("There are {} words.", words.size()), why};
}

Exercise count_to(Dice& d) {
  const int a = d.below(90), b = a + d.between(2, 12);
  std::vector<int> numbers;
  for (int i = a; i <= b; i++) numbers.push_back(i);
  return {d.chance(0.5) ? fmt::format("Count from {} to {}.", a, b)
                        : fmt::format("List the numbers from {} to {}.", a, b),
          numbers_text(numbers), "I count step by step."};
}

Exercise spell(Dice& d) {
  const std::string word(d.pick(d.chance(0.7) ? kNouns : kAnimals));
  std::string out(1, word[0]);
  for (size_t i = 1; i < word.size(); i++) out += fmt::format("-{}", word[i]);
  return {fmt::format("Spell the word {}.", word), out, "I write the letters one by one."};
}

Exercise upper_case(Dice& d) {
  auto words = some_words(d, 3, 8);
  words.resize(std::min<size_t>(words.size(), 4));
  std::string text = joined(words, " "), large = text;
  for (char& c : large)
    if (c >= 'a' && c <= 'z') c -= 'a' - 'A';
  return {(d.chance(0.5) ? "Write in upper case: " : "Make this upper case: ") + text, large,
          "I write every letter large."};
}

}  // namespace

Exercise exercise(Dice& d, std::string_view sub) {
  if (sub == "copy") return copy(d);
  if (sub == "reverse") {
    constexpr std::string_view kAsked[] = {
        "Reverse the list: ", "Reverse this list: ", "Write the list backwards: "};
    const auto words = some_words(d, 3, 8);
    return {std::string(d.pick(kAsked)) + joined(words, ", "),
            joined({words.rbegin(), words.rend()}, ", "), "I start with the last item."};
  }
  if (sub == "sort") {
    auto words = some_words(d, 3, 6);
    const std::string asked =
        (d.chance(0.5) ? "Sort the words: " : "Put in alphabetical order: ") + joined(words, ", ");
    std::sort(words.begin(), words.end());
    return {asked, joined(words, ", "), "I order the words by their letters."};
  }
  if (sub == "sort numbers") return sort_numbers(d);
  if (sub == "count") return count_words(d);
  if (sub == "upper case") return upper_case(d);
  if (sub == "count to") return count_to(d);
  if (sub == "spell") return spell(d);
  if (sub == "add") return sum(d, '+');
  if (sub == "subtract") return sum(d, '-');
  NW_CHECK(sub == "multiply", "no exercise is called {}", sub);
  return sum(d, '*');
}

Case text_case(Dice& dice, std::string_view sub, bool thinking) {
  return one_question(dice, exercise(dice, sub), thinking);
}

}  // namespace narwhal::eval
