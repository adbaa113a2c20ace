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

#include "buffers.hpp"
#include "parts.hpp"

namespace nb = nanobind;

namespace nearline {

int64_t score_candidates(const std::vector<Part<int64_t>>& parts, const Kept& kept, const Believed& beliefs,
                         const Wanted& wanted, double* mean, double* variance) {
  static thread_local std::vector<double> x;
  static thread_local Groups groups;
  const int64_t columns = beliefs.columns;
  x.resize(static_cast<size_t>(wanted.size() * columns));
  gather(parts, kept, wanted, columns, x.data());
  group(beliefs, wanted, groups);
  int8_t status = kLearned;
  int64_t start[2], packed_start[2], row_start[2];
  ScoreJob job;
  job.rows.dense = x.data();
  job.rows.columns = columns;
  job.rows.row = beliefs.slots == 1 ? nullptr : groups.order.data();
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

int64_t score_gathered(nb::handle parts_list, nb::handle kept_table, nb::handle at, int64_t count, nb::handle mean_table,
                       nb::handle precision_table, nb::handle slot_array, int64_t columns, bool full, nb::handle places,
                       nb::handle mean_out, nb::handle variance_out) {
  const auto parts = read_parts<int64_t>(parts_list, count);
  require_columns(parts, columns);
  const Kept kept(kept_table, at, count, columns);
  const Wanted wanted(places, count);
  const Array<const int64_t> slots(slot_array, "slots");
  const Believed beliefs(mean_table, precision_table, slots.data(), slots.size(), count, columns, full);
  const Array<double> mean(mean_out, "mean_out"), variance(variance_out, "variance_out");
  const int64_t n = wanted.size();
  require_that(mean.size() == n && (!variance || variance.size() == n), "expected a value for each candidate wanted");
  return score_candidates(parts, kept, beliefs, wanted, mean.data(), variance ? variance.data() : nullptr);
}

void add_linear(nb::handle parts_list, nb::handle kept_table, nb::handle at, nb::handle out_array) {
  const Array<double> out(out_array, "out");
  const auto parts = read_parts<double>(parts_list, out.size());
  add_linear_parts(parts, Kept(kept_table, at, out.size(), 1), out.size(), out.data());
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
