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
// Parts are those of parts.hpp.
#include "gathered.hpp"

#include <cmath>

#include "buffers.hpp"
#include "parts.hpp"

namespace nb = nanobind;

namespace nearline {
namespace {

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

// The beliefs about the entities of candidates: whole blocks in tables, by slot. One slot is that of all candidates.
struct Believed {
  Array<const double> mean, precision;
  Array<const int64_t> slots;
  int64_t columns, numbers;
  bool full;

  Believed(nb::handle mean_table, nb::handle precision_table, nb::handle slot_array, int64_t count, int64_t columns_,
           bool full_)
      : mean(mean_table, "mean"), precision(precision_table, "precision"), slots(slot_array, "slots"), columns(columns_),
        numbers(full_ ? columns_ * (columns_ + 1) / 2 : columns_), full(full_) {
    require_that(columns > 0, "an effect has an intercept");
    require_that(mean.size() % columns == 0 && precision.size() == mean.size() / columns * numbers,
                 "beliefs: expected whole blocks");
    require_that(slots.size() == 1 || slots.size() == count, "slots: expected one, or one for each candidate");
    for (int64_t i = 0; i < slots.size(); ++i)
      require_that(slots[i] >= 0 && slots[i] < mean.size() / columns, "slots: out of range");
  }
  const double* mean_of(int64_t candidate) const {
    return mean.data() + slots[slots.size() == 1 ? 0 : candidate] * columns;
  }
};

// Mean and, if it is wanted, variance of each candidate wanted; the first slot that cannot be used, -1 if there is none.
int64_t score(const std::vector<Part<int64_t>>& parts, const Kept& kept, const Believed& beliefs, const Wanted& wanted,
              double* mean, double* variance) {
  static thread_local std::vector<double> x;
  static thread_local Groups groups;
  const int64_t columns = beliefs.columns;
  x.resize(static_cast<size_t>(wanted.size() * columns));
  gather(parts, kept, wanted, columns, x.data());
  group(beliefs.slots, wanted, groups);
  int8_t status = kLearned;
  int64_t start[2], packed_start[2], row_start[2];
  ScoreJob job;
  job.rows.dense = x.data();
  job.rows.columns = columns;
  job.rows.row = beliefs.slots.size() == 1 ? nullptr : groups.order.data();
  job.rows.row_start = row_start;
  job.beliefs = Blocks{1, nullptr, start, packed_start, const_cast<double*>(beliefs.mean.data()),
                       const_cast<double*>(beliefs.precision.data()), beliefs.full};
  job.mean = mean;
  job.variance = variance;
  job.status = &status;
  for (size_t g = 0; g < groups.slot.size(); ++g) {
    const int64_t slot = groups.slot[g];
    row_start[0] = groups.start[g], row_start[1] = groups.start[g + 1];
    start[0] = slot * columns, start[1] = start[0] + columns;
    packed_start[0] = slot * beliefs.numbers, packed_start[1] = packed_start[0] + beliefs.numbers;
    run_chosen_score(job, 0, 1);
    if (status != kLearned) return slot;
  }
  return -1;
}

int64_t score_gathered(nb::handle parts_list, nb::handle kept_table, nb::handle at, int64_t count, nb::handle mean_table,
                       nb::handle precision_table, nb::handle slot_array, int64_t columns, bool full, nb::handle places,
                       nb::handle mean_out, nb::handle variance_out) {
  const auto parts = read_parts<int64_t>(parts_list, count);
  require_columns(parts, columns);
  const Kept kept(kept_table, at, count, columns);
  const Wanted wanted(places, count);
  const Believed beliefs(mean_table, precision_table, slot_array, count, columns, full);
  const Array<double> mean(mean_out, "mean_out"), variance(variance_out, "variance_out");
  const int64_t n = wanted.size();
  require_that(mean.size() == n && (!variance || variance.size() == n), "expected a value for each candidate wanted");
  return score(parts, kept, beliefs, wanted, mean.data(), variance ? variance.data() : nullptr);
}

// out_c += kept[at_c] + sum over features of coefficient * value.
void add_linear_parts(const std::vector<Part<double>>& parts, const Kept& kept, int64_t count, double* out) {
  double of_all = 0.0;
  for (const auto& part : parts) {
    const int64_t m = part.number.size();
    for (int64_t j = 0; part.of_all && j < m; ++j) of_all += part.entry(j) * part.values[j];
    for (int64_t e = 0; part.row && e < m; ++e) out[part.row[e]] += part.entry(e) * part.values[e];
    if (part.of_all || part.row) continue;
    static thread_local std::vector<double> coefficient;
    coefficient.resize(static_cast<size_t>(m));
    for (int64_t j = 0; j < m; ++j) coefficient[static_cast<size_t>(j)] = part.entry(j);
    for (int64_t c = 0; c < count; ++c) out[c] += dot(coefficient.data(), part.values.data() + c * m, m);
  }
  for (int64_t c = 0; c < count; ++c) out[c] += of_all + (kept.table && kept.at[c] >= 0 ? kept.table[kept.at[c]] : 0.0);
}

void add_linear(nb::handle parts_list, nb::handle kept_table, nb::handle at, nb::handle out_array) {
  const Array<double> out(out_array, "out");
  const auto parts = read_parts<double>(parts_list, out.size());
  add_linear_parts(parts, Kept(kept_table, at, out.size(), 1), out.size(), out.data());
}

// out_c <- x_c' m of the entity of candidate c. The rows x_c are not made: what all candidates share meets a belief once
// where that is of all, and kept rows and features of each meet it where they lie.
void means_of(const std::vector<Part<int64_t>>& parts, const Kept& kept, const Believed& beliefs, int64_t count,
              double* out) {
  const int64_t columns = beliefs.columns;
  const bool one = beliefs.slots.size() == 1;
  static thread_local std::vector<double> base, weight;
  shared_row(parts, columns, base);
  const double of_all = one ? dot(base.data(), beliefs.mean_of(0), columns) : 0.0;
  for (int64_t c = 0; c < count; ++c) {
    if (!one && c + kAhead < count) prefetch(beliefs.mean_of(c + kAhead), columns);
    if (kept.table && c + kAhead < count && kept.at[c + kAhead] >= 0)
      prefetch(kept.table.data() + kept.at[c + kAhead] * columns, columns);
    const double* mean = beliefs.mean_of(c);
    out[c] = one ? of_all : dot(base.data(), mean, columns);
    if (kept.table && kept.at[c] >= 0) out[c] += dot(kept.table.data() + kept.at[c] * columns, mean, columns);
  }
  for (const auto& part : parts) {
    const int64_t m = part.number.size();
    for (int64_t e = 0; part.row && e < m; ++e)
      if (const int64_t column = part.entry(e); column >= 0)
        out[part.row[e]] += beliefs.mean_of(part.row[e])[column] * part.values[e];
    if (part.of_all || part.row) continue;
    weight.assign(static_cast<size_t>(m), 0.0);
    for (int64_t c = 0; c < count; ++c) {
      if (c == 0 || !one)
        for (int64_t j = 0; j < m; ++j)
          if (const int64_t column = part.entry(j); column >= 0) weight[static_cast<size_t>(j)] = beliefs.mean_of(c)[column];
      out[c] += dot(weight.data(), part.values.data() + c * m, m);
    }
  }
}

struct Effect {
  std::vector<Part<int64_t>> parts;
  Kept kept;
  Believed beliefs;

  Effect(const nb::tuple& given, nb::handle at, int64_t count)
      : parts(read_parts<int64_t>(given[0], count)), kept(given[1], at, count, nb::cast<int64_t>(given[5])),
        beliefs(given[2], given[3], given[4], count, nb::cast<int64_t>(given[5]), nb::cast<bool>(given[6])) {
    require_columns(parts, beliefs.columns);
  }
};

constexpr size_t kByTables = 7;   // parts, kept rows, means, precisions, slots, columns, whether precisions are full

// The linear predictors of a request's candidates. An effect is given by tables, or by what it adds to each candidate.
void request_means(nb::list fixed_parts, nb::handle fixed_kept, nb::handle at, double intercept, nb::list effects,
                   nb::handle offset_array, nb::handle fixed_out, nb::handle linear_out) {
  const Array<const double> offset(offset_array, "offset");
  const Array<double> fixed(fixed_out, "fixed_out"), linear(linear_out, "linear_out");
  const int64_t count = offset.size();
  require_that(fixed.size() == count && linear.size() == count, "expected a value for each candidate");
  std::fill_n(fixed.data(), count, intercept);
  add_linear_parts(read_parts<double>(fixed_parts, count), Kept(fixed_kept, at, count, 1), count, fixed.data());
  for (int64_t c = 0; c < count; ++c) linear[c] = fixed[c] + offset[c];
  static thread_local std::vector<double> added;
  added.resize(static_cast<size_t>(count));
  for (nb::handle one : effects) {
    const auto given = nb::cast<nb::tuple>(one);
    if (given.size() == kByTables) {
      const Effect effect(given, at, count);
      means_of(effect.parts, effect.kept, effect.beliefs, count, added.data());
      for (int64_t c = 0; c < count; ++c) linear[c] += added[static_cast<size_t>(c)];
    } else {
      require_that(given.size() == 1, "an effect is given by tables, or by its means");
      const Array<const double> means(given[0], "means");
      require_that(means.size() == count, "means: expected one for each candidate");
      for (int64_t c = 0; c < count; ++c) linear[c] += means[c];
    }
  }
}

// What is said of the candidates at `places`, a row each of `out` [5 + 2 effects][places]: offset, fixed, linear
// predictor, its variance and standard deviation, then mean and variance of each effect. An effect is given by tables,
// or by means and variances. Returns the first slot whose belief cannot be used, -1 if there is none.
int64_t request_parts(nb::list effects, nb::handle at, nb::handle place_array, nb::handle offset_array,
                      nb::handle fixed_array, nb::handle widened_array, double noise, nb::handle out_array) {
  const Array<const double> offset(offset_array, "offset"), fixed(fixed_array, "fixed"), widened(widened_array, "widened");
  const Array<double> out(out_array, "out");
  const int64_t count = offset.size();
  require_that(!place_array.is_none(), "places: expected an array");
  const Wanted places(place_array, count);
  const int64_t n = places.size();
  require_that(fixed.size() == count && (!widened || widened.size() == count), "expected a value for each candidate");
  require_that(out.size() == n * static_cast<int64_t>(5 + 2 * effects.size()), "out: expected a row for each number");
  double *linear = out.data() + 2 * n, *variance = linear + n, *std = variance + n, *next = std + n;
  for (int64_t i = 0; i < n; ++i) {
    out[i] = offset[places[i]];
    out[n + i] = fixed[places[i]];
    linear[i] = fixed[places[i]] + offset[places[i]];
    variance[i] = widened ? widened[places[i]] : 0.0;
  }
  for (nb::handle one : effects) {
    const auto given = nb::cast<nb::tuple>(one);
    if (given.size() == kByTables) {
      const Effect effect(given, at, count);
      if (const int64_t failed = score(effect.parts, effect.kept, effect.beliefs, places, next, next + n); failed >= 0)
        return failed;
    } else {
      require_that(given.size() == 2, "an effect is given by tables, or by its means and variances");
      const Array<const double> means(given[0], "means"), variances(given[1], "variances");
      require_that(means.size() == n && variances.size() == n, "expected a value for each place");
      std::copy_n(means.data(), n, next);
      std::copy_n(variances.data(), n, next + n);
    }
    for (int64_t i = 0; i < n; ++i) {
      linear[i] += next[i];
      variance[i] += next[n + i];
    }
    next += 2 * n;
  }
  for (int64_t i = 0; i < n; ++i) std[i] = std::sqrt(variance[i] + noise);
  return -1;
}

}  // namespace

void define_gathered(nb::module_& module) {
  module.def("gather_rows", &gather_rows, nb::arg("parts"), nb::arg("kept").none(), nb::arg("at").none(),
             nb::arg("count"), nb::arg("columns"), nb::arg("out"));
  module.def("score_gathered", &score_gathered, nb::arg("parts"), nb::arg("kept").none(), nb::arg("at").none(),
             nb::arg("count"), nb::arg("mean"), nb::arg("precision"), nb::arg("slots"), nb::arg("columns"), nb::arg("full"),
             nb::arg("places").none(), nb::arg("mean_out"), nb::arg("variance_out").none());
  module.def("request_means", &request_means, nb::arg("fixed"), nb::arg("kept").none(), nb::arg("at").none(),
             nb::arg("intercept"), nb::arg("effects"), nb::arg("offset"), nb::arg("fixed_out"), nb::arg("linear_out"));
  module.def("request_parts", &request_parts, nb::arg("effects"), nb::arg("at").none(), nb::arg("places"),
             nb::arg("offset"), nb::arg("fixed"), nb::arg("widened").none(), nb::arg("noise"), nb::arg("out"));
  module.def("add_linear", &add_linear, nb::arg("parts"), nb::arg("kept").none(), nb::arg("at").none(), nb::arg("out"));
}

}  // namespace nearline
