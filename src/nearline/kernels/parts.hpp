// Features of candidates by where they are, and the rows they make: see gathered.cpp.
//
// Features come in parts (table, number, values, row), one for a bag. table[number] is a feature's column, below 0 for
// one the effect does not know; number -1 is the last of the table. `row` says whose an entry is. Without it, the values
// are those of all candidates, [numbers], or a row for each, [candidates][numbers].
#pragma once

#include <nanobind/nanobind.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "buffers.hpp"

namespace nearline {

// One bag's features. T is int64_t where they have columns, double where they have coefficients.
template <class T>
struct Part {
  Array<const T> table;
  Array<const int64_t> number;
  Array<const double> values;
  Array<const int64_t> row;
  bool of_all = false;   // one row of values stands for every candidate

  // Whether the effect knows any of the features.
  bool is_known() const {
    for (int64_t j = 0; j < number.size(); ++j)
      if (entry(j) >= 0) return true;
    return false;
  }
  const T& entry(int64_t j) const { return table[number[j] < 0 ? table.size() - 1 : number[j]]; }
};

template <class T>
std::vector<Part<T>> read_parts(nanobind::handle list, int64_t count) {
  std::vector<Part<T>> parts;
  for (nanobind::handle item : nanobind::cast<nanobind::list>(list)) {
    const auto four = nanobind::cast<nanobind::tuple>(item);
    require_that(four.size() == 4, "a part has a table, numbers, values and rows");
    Part<T> part{Array<const T>(four[0], "table"), Array<const int64_t>(four[1], "number"),
                 Array<const double>(four[2], "values"), Array<const int64_t>(four[3], "row")};
    const int64_t n = part.number.size();
    require_that(part.table.size() > 0, "a table has an entry for what is unknown");
    for (int64_t j = 0; j < n; ++j)
      require_that(part.number[j] >= -1 && part.number[j] < part.table.size() - 1, "number: out of range");
    if (part.row) {
      require_that(part.row.size() == n && part.values.size() == n, "an entry has a row, a number and a value");
      for (int64_t j = 0; j < n; ++j) require_that(part.row[j] >= 0 && part.row[j] < count, "row: out of range");
    } else {
      part.of_all = part.values.size() == n;
      require_that(part.of_all || part.values.size() == n * count, "values: expected one a number, or one a number and row");
    }
    parts.push_back(std::move(part));
  }
  return parts;
}

// Rows of a table that candidates have besides, -1 for one that has none.
struct Kept {
  Array<const double> table;
  Array<const int64_t> at;

  Kept(nanobind::handle table_, nanobind::handle at_, int64_t count, int64_t columns) : table(table_, "kept"), at(at_, "at") {
    if (!table) return;
    require_that(columns > 0, "an effect has an intercept");
    require_that(at.size() == count && table.size() % columns == 0, "kept: expected a place for each candidate");
    for (int64_t c = 0; c < count; ++c)
      require_that(at[c] >= -1 && at[c] < table.size() / columns, "at: out of range");
  }
};

// Which candidates are asked about: all of them, or those listed.
class Wanted {
 public:
  Wanted(nanobind::handle places, int64_t count) : places_(places, "places"), size_(places_ ? places_.size() : count) {
    for (int64_t i = 0; places_ && i < size_; ++i)
      require_that(places_[i] >= 0 && places_[i] < count, "places: out of range");
  }
  int64_t size() const { return size_; }
  bool all() const { return !places_; }
  int64_t operator[](int64_t i) const { return places_ ? places_[i] : i; }

 private:
  Array<const int64_t> places_;
  int64_t size_;
};

// The row of a candidate that has nothing of its own: the intercept, and the features of all.
inline void shared_row(const std::vector<Part<int64_t>>& parts, int64_t columns, std::vector<double>& row) {
  row.assign(static_cast<size_t>(columns), 0.0);
  row[0] = 1.0;
  for (const auto& part : parts)
    for (int64_t j = 0; part.of_all && j < part.number.size(); ++j)
      if (const int64_t column = part.entry(j); column >= 0) row[static_cast<size_t>(column)] += part.values[j];
}

constexpr int64_t kAhead = 8;   // candidates, whose numbers are fetched meanwhile

inline void prefetch(const double* from, int64_t count) {
  for (int64_t j = 0; j < count; j += 8) __builtin_prefetch(from + j);
}

// a . b in four sums of two, always the same ones.
inline double dot(const double* a, const double* b, int64_t count) {
  typedef double Two __attribute__((vector_size(16)));
  Two sums[4] = {};
  int64_t j = 0;
  for (; j + 8 <= count; j += 8)
    for (int k = 0; k < 4; ++k) {
      Two left, right;
      std::memcpy(&left, a + j + 2 * k, sizeof left);
      std::memcpy(&right, b + j + 2 * k, sizeof right);
      sums[k] += left * right;
    }
  double rest = 0.0;
  for (; j < count; ++j) rest += a[j] * b[j];
  const Two sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  return sum[0] + sum[1] + rest;
}

// x [wanted][columns] <- the rows of the candidates wanted.
inline void gather(const std::vector<Part<int64_t>>& parts, const Kept& kept, const Wanted& wanted, int64_t columns, double* x) {
  static thread_local std::vector<double> base;
  shared_row(parts, columns, base);
  for (int64_t i = 0; i < wanted.size(); ++i) {
    double* to = x + i * columns;
    if (const int64_t at = kept.table ? kept.at[wanted[i]] : -1; at >= 0) {
      const double* from = kept.table.data() + at * columns;
      for (int64_t j = 0; j < columns; ++j) to[j] = base[static_cast<size_t>(j)] + from[j];
    } else {
      std::copy(base.begin(), base.end(), to);
    }
    for (const auto& part : parts) {
      if (part.of_all || part.row) continue;
      const double* values = part.values.data() + wanted[i] * part.number.size();
      for (int64_t j = 0; j < part.number.size(); ++j)
        if (const int64_t column = part.entry(j); column >= 0) to[column] += values[j];
    }
    for (const auto& part : parts)
      for (int64_t e = 0; part.row && !wanted.all() && e < part.number.size(); ++e)
        if (const int64_t column = part.entry(e); part.row[e] == wanted[i] && column >= 0) to[column] += part.values[e];
  }
  for (const auto& part : parts)   // in one pass where all are wanted
    for (int64_t e = 0; part.row && wanted.all() && e < part.number.size(); ++e)
      if (const int64_t column = part.entry(e); column >= 0) x[part.row[e] * columns + column] += part.values[e];
}

inline void require_columns(const std::vector<Part<int64_t>>& parts, int64_t columns) {
  require_that(columns > 0, "an effect has an intercept");
  for (const auto& part : parts)
    for (int64_t j = 0; j < part.number.size(); ++j) require_that(part.entry(j) < columns, "table: a column out of range");
}

// The rows of each slot in turn: order, and where those of the next begin.
struct Groups {
  std::vector<int64_t> order, start, slot;
};

// The beliefs about the entities of candidates: whole blocks in tables, by slot. One slot is that of all candidates.
struct Believed {
  Array<const double> mean, precision;
  const int64_t* slot;
  int64_t slots, columns, numbers;
  bool full;

  Believed(nanobind::handle mean_table, nanobind::handle precision_table, const int64_t* slot_, int64_t slots_,
           int64_t count, int64_t columns_, bool full_)
      : mean(mean_table, "mean"), precision(precision_table, "precision"), slot(slot_), slots(slots_), columns(columns_),
        numbers(full_ ? columns_ * (columns_ + 1) / 2 : columns_), full(full_) {
    require_that(columns > 0, "an effect has an intercept");
    require_that(mean.size() % columns == 0 && precision.size() == mean.size() / columns * numbers,
                 "beliefs: expected whole blocks");
    require_that(slots == 1 || slots == count, "slots: expected one, or one for each candidate");
    for (int64_t i = 0; i < slots; ++i)
      require_that(slot[i] >= 0 && slot[i] < mean.size() / columns, "slots: out of range");
  }
  int64_t slot_of(int64_t candidate) const { return slot[slots == 1 ? 0 : candidate]; }
  const double* mean_of(int64_t candidate) const { return mean.data() + slot_of(candidate) * columns; }
};

inline void group(const Believed& beliefs, const Wanted& wanted, Groups& groups) {
  const int64_t n = wanted.size();
  groups.order.resize(static_cast<size_t>(n));
  std::iota(groups.order.begin(), groups.order.end(), 0);
  groups.start.assign(1, 0);
  groups.slot.clear();
  const auto slot_of = [&](int64_t i) { return beliefs.slot_of(wanted[i]); };
  if (beliefs.slots > 1)
    std::sort(groups.order.begin(), groups.order.end(), [&](int64_t i, int64_t j) {
      return slot_of(i) != slot_of(j) ? slot_of(i) < slot_of(j) : i < j;
    });
  for (int64_t i = 0; i < n; ++i) {
    const int64_t slot = slot_of(groups.order[static_cast<size_t>(i)]);
    if (groups.slot.empty() || groups.slot.back() != slot) {
      if (!groups.slot.empty()) groups.start.push_back(i);
      groups.slot.push_back(slot);
    }
  }
  groups.start.push_back(n);
}

}  // namespace nearline
