// What a join remembers, as it lies in its tables (the layout is in stream/join_state.py) <-> values.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "event_heads.hpp"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values are little endian, and copied as they are");

namespace nearline {

// A feedback. Labels and weights are finite, so that any two can be ordered.
struct Answer {
  int64_t time_ms = 0;
  std::string_view id;  // its own; empty without one
  double label = 0.0, weight = 1.0;

  auto all() const { return std::tie(time_ms, id, label, weight); }
};

struct Shown {
  int64_t close_ms = 0, time_ms = 0;
  std::string_view id;
  double weight = 1.0;
  size_t partitions = 0;  // where they begin in the pool
  uint16_t partition_count = 0;
  std::string_view record;
  bool has_answer = false;
  Answer answer;
  bool is_new = false, is_changed = false, is_gone = false;  // in this run
};

struct Orphan {  // feedback without impression
  int64_t due_ms = 0, position = 0;
  std::string_view impression;
  Answer answer;
  std::string_view record;
  bool is_new = false, is_settled = false;
};

struct Late {  // feedback from after the close of its impression, not yet due
  int64_t position = 0;
  std::string_view impression;
  Answer answer;
  bool is_new = false, is_applied = false;
};

enum class Turn : uint8_t { kClose, kLate, kGiveUp, kForget };

struct Unreadable : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// Reads fixed fields from a key or a value, and never beyond it.
class Fields {
 public:
  explicit Fields(std::string_view bytes) : left_(bytes) {}

  template <typename T>
  T little() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  int64_t big() {
    uint64_t value = 0;
    for (const char c : take(8)) value = value << 8 | static_cast<uint8_t>(c);
    return static_cast<int64_t>(value);
  }

  std::string_view take(size_t size) {
    if (left_.size() < size) throw Unreadable("the join's state: an entry is cut short");
    const std::string_view found = left_.substr(0, size);
    left_.remove_prefix(size);
    return found;
  }

  std::string_view rest() const { return left_; }
  bool at_end() const { return left_.empty(); }

 private:
  std::string_view left_;
};

inline void put_big(std::string& out, int64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<char>(static_cast<uint64_t>(value) >> shift));
}

template <typename T>
void put_little(std::string& out, T value) {
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  out.append(bytes, sizeof value);
}

constexpr bool is_time(int64_t ms) { return ms >= 0 && ms < kMaxTime; }

constexpr size_t kAnswerBytes = 26;  // without the id

inline Answer answer_of(Fields& fields) {
  Answer answer;
  answer.time_ms = fields.little<int64_t>();
  answer.label = fields.little<double>();
  answer.weight = fields.little<double>();
  answer.id = fields.take(fields.little<uint16_t>());
  const double zero = (answer.label - answer.label) + (answer.weight - answer.weight);
  if (!(zero == 0.0) || !is_time(answer.time_ms)) throw Unreadable("the join's state: a number is out of range");
  return answer;
}

inline void put_answer(std::string& out, const Answer& answer) {
  put_little(out, answer.time_ms);
  put_little(out, answer.label);
  put_little(out, answer.weight);
  put_little(out, static_cast<uint16_t>(answer.id.size()));
  out.append(answer.id);
}

inline std::string shown_key(int64_t close_ms, std::string_view id) {
  std::string key;
  key.reserve(8 + id.size());
  put_big(key, close_ms);
  key.append(id);
  return key;
}

inline Shown shown_of(std::string_view key, std::string_view value, std::vector<uint16_t>& pool) {
  Shown shown;
  Fields keys(key), fields(value);
  shown.close_ms = keys.big();
  shown.id = keys.rest();
  shown.time_ms = fields.little<int64_t>();
  if (!is_time(shown.time_ms)) throw Unreadable("the join's state: a number is out of range");
  shown.weight = fields.little<double>();
  shown.partition_count = fields.little<uint16_t>();
  const auto size = fields.little<uint32_t>();
  shown.partitions = pool.size();
  for (uint16_t i = 0; i < shown.partition_count; ++i) pool.push_back(fields.little<uint16_t>());
  Fields answer(fields.take(size));
  shown.has_answer = size > 0;
  if (shown.has_answer) shown.answer = answer_of(answer);
  shown.record = fields.rest();
  return shown;
}

inline void put_shown(std::string& value, const Shown& shown, const std::vector<uint16_t>& pool) {
  put_little(value, shown.time_ms);
  put_little(value, shown.weight);
  put_little(value, shown.partition_count);
  put_little(value, static_cast<uint32_t>(shown.has_answer ? kAnswerBytes + shown.answer.id.size() : 0));
  for (uint16_t i = 0; i < shown.partition_count; ++i) put_little(value, pool[shown.partitions + i]);
  if (shown.has_answer) put_answer(value, shown.answer);
  value.append(shown.record);
}

inline std::string waiting_key(int64_t due_ms, Turn turn, std::string_view impression, int64_t position) {
  std::string key;
  key.reserve(17 + impression.size());
  put_big(key, due_ms);
  key.push_back(static_cast<char>(turn));
  key.append(impression);
  put_big(key, position);
  return key;
}

// The parts of a key of feedback that waits.
struct WaitingKey {
  int64_t due_ms, position;
  Turn turn;
  std::string_view impression;

  explicit WaitingKey(std::string_view key) {
    Fields fields(key);
    due_ms = fields.big();
    turn = fields.take(1)[0] == static_cast<char>(Turn::kLate) ? Turn::kLate : Turn::kGiveUp;
    const std::string_view rest = fields.rest();
    if (rest.size() < 8) throw Unreadable("the join's state: an entry is cut short");
    impression = rest.substr(0, rest.size() - 8);
    position = Fields(rest.substr(rest.size() - 8)).big();
  }
};

}  // namespace nearline
