#include "convert/imatrix.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>

namespace narwhal {
namespace {

template <class T>
void put(std::string& out, T v) {
  char bytes[sizeof v];
  std::memcpy(bytes, &v, sizeof v);
  out.append(bytes, sizeof v);
}

std::string entry(const std::string& name, int32_t n_calls, const std::vector<float>& values) {
  std::string out;
  put(out, static_cast<int32_t>(name.size()));
  out += name;
  put(out, n_calls);
  put(out, static_cast<int32_t>(values.size()));
  for (const float v : values) put(out, v);
  return out;
}

std::string file_of(const std::vector<std::string>& entries, const std::string& trailer = "") {
  std::string out;
  put(out, static_cast<int32_t>(entries.size()));
  for (const auto& e : entries) out += e;
  return out + trailer;
}

std::string trailer(int32_t n_chunks, const std::string& dataset) {
  std::string out;
  put(out, n_chunks);
  put(out, static_cast<int32_t>(dataset.size()));
  return out + dataset;
}

std::vector<float> found(const Imatrix& m, const char* name, int64_t e, int64_t n_experts,
                         int64_t n_columns) {
  const auto r = m.find(name, e, n_experts, n_columns);
  if (!r.ok()) return {-1};
  return {r->begin(), r->end()};
}

TEST(Imatrix, ReadsEntriesAndTrailer) {
  const auto m = Imatrix::parse(
      file_of({entry("packed", 1, {1, 2, 3, 4}), entry("halved", 2, {8, 6}), entry("raw", 0, {5})},
              trailer(90042, "chats.txt")));
  ASSERT_TRUE(m.ok()) << m.status().message();
  EXPECT_EQ(m->n_entries(), 3);
  EXPECT_EQ(m->n_chunks(), 90042);
  EXPECT_EQ(m->dataset(), "chats.txt");
  EXPECT_EQ(found(*m, "packed", 0, 2, 2), (std::vector<float>{1, 2}));
  EXPECT_EQ(found(*m, "packed", 1, 2, 2), (std::vector<float>{3, 4}));
  EXPECT_EQ(found(*m, "packed", 0, 1, 4), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(found(*m, "halved", 0, 1, 2), (std::vector<float>{4, 3}));
  EXPECT_EQ(found(*m, "raw", 0, 1, 1), (std::vector<float>{5}));
  EXPECT_TRUE(found(*m, "absent", 0, 1, 1).empty());
}

TEST(Imatrix, ExpertEntriesComeBeforeThePackedOne) {
  const auto m =
      Imatrix::parse(file_of({entry("w", 1, {1, 2, 3}), entry("w.expert_1", 1, {20}),
                              entry("w.expert.2", 1, {30}), entry("w.expert_2", 1, {31})}));
  ASSERT_TRUE(m.ok()) << m.status().message();
  EXPECT_EQ(m->n_chunks(), 0);
  EXPECT_EQ(found(*m, "w", 0, 3, 1), (std::vector<float>{1}));
  EXPECT_EQ(found(*m, "w", 1, 3, 1), (std::vector<float>{20}));
  EXPECT_EQ(found(*m, "w", 2, 3, 1), (std::vector<float>{30}));
}

TEST(Imatrix, LengthMustFitTheTensor) {
  const auto m =
      Imatrix::parse(file_of({entry("w", 1, {1, 2, 3, 4}), entry("v.expert.0", 1, {1, 2})}));
  ASSERT_TRUE(m.ok());
  EXPECT_FALSE(m->find("w", 0, 2, 4).ok());
  EXPECT_FALSE(m->find("w", 0, 1, 2).ok());
  EXPECT_FALSE(m->find("v", 0, 2, 1).ok());
}

TEST(Imatrix, RefusesDamage) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::string good = entry("w", 1, {1, 2});
  std::string huge_name, negative_name, no_values;
  put(huge_name, int32_t{1} << 30);
  put(negative_name, int32_t{-1});
  put(no_values, int32_t{1});
  no_values += "w";
  put(no_values, int32_t{1});
  put(no_values, int32_t{0});
  const std::string bad[] = {
      "",
      file_of({}),
      file_of({good, good}),
      file_of({entry("w", 1, {1, inf})}),
      file_of({entry("w", 1, {std::numeric_limits<float>::quiet_NaN()})}),
      file_of({entry("w", 1, {-1})}),
      file_of({entry("\xff", 1, {1})}),
      file_of({entry("", 1, {1})}),
      file_of({huge_name}),
      file_of({negative_name}),
      file_of({no_values}),
      file_of({good}, trailer(-1, "")),
      file_of({good}, trailer(1, "x") + "y"),
  };
  for (const std::string& bytes : bad) {
    const auto m = Imatrix::parse(bytes);
    ASSERT_FALSE(m.ok());
    EXPECT_EQ(m.status().code(), Code::kBadInput);
  }
}

// Every cut but the one before the trailer loses something.
TEST(Imatrix, RefusesEveryTruncation) {
  const std::string body = file_of({entry("w", 1, {1, 2}), entry("v", 1, {3})});
  const std::string whole = body + trailer(7, "set");
  ASSERT_TRUE(Imatrix::parse(whole).ok());
  for (size_t n = 0; n < whole.size(); n++)
    EXPECT_EQ(Imatrix::parse(std::string_view(whole).substr(0, n)).ok(), n == body.size()) << n;
}

}  // namespace
}  // namespace narwhal
