// Candidates whose features and beliefs lie in tables, by their places there, to scores: nothing is copied that is not
// asked about, and no array is made for a step in between.
//
// The row of candidate c of an effect is
//
//   x_c = e_0 + kept[at_c] + sum over features f of c of value_cf e_column(f)
//
// with e_0 the intercept; its belief is that of slot s_c, with mean m and precision P:
//
//   mean_c = x_c' m,   variance_c = x_c' P^-1 x_c.
//
// Features come in parts (table, number, values, row), one for a bag. table[number] is a feature's column, below 0 for
// one the effect does not know; number -1 is the last of the table. `row` says whose an entry is. Without it, the values
// are those of all candidates, [numbers], or a row for each, [candidates][numbers].
#include "gathered.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

#include "buffers.hpp"

namespace nb = nanobind;

namespace nearline {
namespace {

// One bag's features. T is int64_t where they have columns, double where they have coefficients.
template <class T>
struct Part {
  Array<const T> table;
  Array<const int64_t> number;
  Array<const double> values;
  Array<const int64_t> row;
  bool of_all = false;   // one row of values stands for every candidate

  const T& entry(int64_t j) const { return table[number[j] < 0 ? table.size() - 1 : number[j]]; }
};

template <class T>
std::vector<Part<T>> read_parts(nb::handle list, int64_t count) {
  std::vector<Part<T>> parts;
  for (nb::handle item : nb::cast<nb::list>(list)) {
    const auto four = nb::cast<nb::tuple>(item);
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

  Kept(nb::handle table_, nb::handle at_, int64_t count, int64_t columns) : table(table_, "kept"), at(at_, "at") {
    if (!table) return;
    require_that(at.size() == count && table.size() % columns == 0, "kept: expected a place for each candidate");
    for (int64_t c = 0; c < count; ++c)
      require_that(at[c] >= -1 && at[c] < table.size() / columns, "at: out of range");
  }
};

// Which candidates are asked about: all of them, or those listed.
class Wanted {
 public:
  Wanted(nb::handle places, int64_t count) : places_(places, "places"), size_(places_ ? places_.size() : count) {
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

// x [wanted][columns] <- the rows of the candidates wanted.
void gather(const std::vector<Part<int64_t>>& parts, const Kept& kept, const Wanted& wanted, int64_t columns, double* x) {
  static thread_local std::vector<double> base;
  base.assign(static_cast<size_t>(columns), 0.0);
  base[0] = 1.0;
  for (const auto& part : parts)
    for (int64_t j = 0; part.of_all && j < part.number.size(); ++j)
      if (const int64_t column = part.entry(j); column >= 0) base[static_cast<size_t>(column)] += part.values[j];
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

void require_columns(const std::vector<Part<int64_t>>& parts, int64_t columns) {
  require_that(columns > 0, "an effect has an intercept");
  for (const auto& part : parts)
    for (int64_t j = 0; j < part.number.size(); ++j) require_that(part.entry(j) < columns, "table: a column out of range");
}

void gather_rows(nb::handle parts_list, nb::handle kept_table, nb::handle at, int64_t count, int64_t columns,
                 nb::handle out) {
  const auto parts = read_parts<int64_t>(parts_list, count);
  require_columns(parts, columns);
  const Kept kept(kept_table, at, count, columns);
  const Wanted wanted(nb::none(), count);
  const Array<double> x(out, "out");
  require_that(x.size() == count * columns, "out: expected a row for each candidate");
  gather(parts, kept, wanted, columns, x.data());
}

// The rows of each slot in turn: order, and where those of the next begin.
struct Groups {
  std::vector<int64_t> order, start, slot;
};

void group(const Array<const int64_t>& slots, const Wanted& wanted, Groups& groups) {
  const int64_t n = wanted.size();
  groups.order.resize(static_cast<size_t>(n));
  std::iota(groups.order.begin(), groups.order.end(), 0);
  groups.start.assign(1, 0);
  groups.slot.clear();
  const auto slot_of = [&](int64_t i) { return slots[slots.size() == 1 ? 0 : wanted[i]]; };
  if (slots.size() > 1)
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

// Returns the first slot whose belief cannot be used, -1 if there is none.
int64_t score_gathered(nb::handle parts_list, nb::handle kept_table, nb::handle at, int64_t count, nb::handle mean_table,
                       nb::handle precision_table, nb::handle slot_array, int64_t columns, bool full, nb::handle places,
                       nb::handle mean_out, nb::handle variance_out) {
  const auto parts = read_parts<int64_t>(parts_list, count);
  require_columns(parts, columns);
  const Kept kept(kept_table, at, count, columns);
  const Wanted wanted(places, count);
  const Array<const double> means(mean_table, "mean"), precisions(precision_table, "precision");
  const Array<const int64_t> slots(slot_array, "slots");
  const Array<double> mean(mean_out, "mean_out"), variance(variance_out, "variance_out");
  const int64_t numbers = full ? columns * (columns + 1) / 2 : columns, n = wanted.size();
  require_that(means.size() % columns == 0 && precisions.size() == means.size() / columns * numbers,
               "beliefs: expected whole blocks");
  require_that(slots.size() == 1 || slots.size() == count, "slots: expected one, or one for each candidate");
  for (int64_t i = 0; i < slots.size(); ++i)
    require_that(slots[i] >= 0 && slots[i] < means.size() / columns, "slots: out of range");
  require_that(mean.size() == n && (!variance || variance.size() == n), "expected a value for each candidate wanted");

  static thread_local std::vector<double> x;
  static thread_local Groups groups;
  x.resize(static_cast<size_t>(n * columns));
  gather(parts, kept, wanted, columns, x.data());
  group(slots, wanted, groups);
  int8_t status = kLearned;
  int64_t start[2], packed_start[2], row_start[2];
  ScoreJob job;
  job.rows.dense = x.data();
  job.rows.columns = columns;
  job.rows.row = slots.size() == 1 ? nullptr : groups.order.data();
  job.rows.row_start = row_start;
  job.beliefs = Blocks{1, nullptr, start, packed_start, const_cast<double*>(means.data()),
                       const_cast<double*>(precisions.data()), full};
  job.mean = mean.data();
  job.variance = variance ? variance.data() : nullptr;
  job.status = &status;
  for (size_t g = 0; g < groups.slot.size(); ++g) {
    const int64_t slot = groups.slot[g];
    row_start[0] = groups.start[g], row_start[1] = groups.start[g + 1];
    start[0] = slot * columns, start[1] = start[0] + columns;
    packed_start[0] = slot * numbers, packed_start[1] = packed_start[0] + numbers;
    run_chosen_score(job, 0, 1);
    if (status != kLearned) return slot;
  }
  return -1;
}

// out_c += kept[at_c] + sum over features of coefficient * value.
void add_linear(nb::handle parts_list, nb::handle kept_table, nb::handle at, nb::handle out_array) {
  const Array<double> out(out_array, "out");
  const int64_t count = out.size();
  const auto parts = read_parts<double>(parts_list, count);
  const Kept kept(kept_table, at, count, 1);
  double of_all = 0.0;
  for (const auto& part : parts) {
    const int64_t m = part.number.size();
    for (int64_t j = 0; part.of_all && j < m; ++j) of_all += part.entry(j) * part.values[j];
    for (int64_t e = 0; part.row && e < m; ++e) out[part.row[e]] += part.entry(e) * part.values[e];
    for (int64_t c = 0; !part.of_all && !part.row && c < count; ++c) {
      double total = 0.0;
      for (int64_t j = 0; j < m; ++j) total += part.entry(j) * part.values[c * m + j];
      out[c] += total;
    }
  }
  for (int64_t c = 0; c < count; ++c) out[c] += of_all + (kept.table && kept.at[c] >= 0 ? kept.table[kept.at[c]] : 0.0);
}

}  // namespace

void define_gathered(nb::module_& module) {
  module.def("gather_rows", &gather_rows, nb::arg("parts"), nb::arg("kept").none(), nb::arg("at").none(),
             nb::arg("count"), nb::arg("columns"), nb::arg("out"));
  module.def("score_gathered", &score_gathered, nb::arg("parts"), nb::arg("kept").none(), nb::arg("at").none(),
             nb::arg("count"), nb::arg("mean"), nb::arg("precision"), nb::arg("slots"), nb::arg("columns"), nb::arg("full"),
             nb::arg("places").none(), nb::arg("mean_out"), nb::arg("variance_out").none());
  module.def("add_linear", &add_linear, nb::arg("parts"), nb::arg("kept").none(), nb::arg("at").none(), nb::arg("out"));
}

}  // namespace nearline
