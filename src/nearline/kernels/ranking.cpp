// Rows in the order of falling score, and many weightings of them, to the ranking metrics and the calibration error of
// each weighting. What the bootstrap calls for every resample: the rows are sorted once, and a weighting costs two
// passes over them.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>
#include <vector>

namespace nb = nanobind;
using nb::literals::operator""_a;

namespace {

using Doubles = nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Indices = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Weightings = nb::ndarray<const double, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Matrix = nb::ndarray<nb::numpy, double, nb::ndim<2>>;

constexpr std::int64_t kMeasures = 3;

struct Ranked {
  std::int64_t rows, scores;
  const std::int64_t* order;  // [rows], by falling score
  const std::int64_t* ends;   // [scores], the last row in that order with each distinct score
  const double* y;            // [rows], in that order
  const double* score;        // [scores], falling
};

double ratio(double numerator, double denominator) {
  return denominator > 0.0 ? numerator / denominator : std::numeric_limits<double>::quiet_NaN();
}

// The sum over bins of equal mass of |expected - observed|. A score whose mass lies across an edge gives each side its
// share. `mass` and `positive` [scores] are the weight and the positive weight at each score.
double calibration_gaps(const Ranked& ranked, std::int64_t bins, const double* mass, const double* positive,
                        double total) {
  double mass_before = 0.0, mass_at = 0.0, excess_before = 0.0, excess_at = 0.0, last_edge = 0.0, gaps = 0.0;
  std::int64_t bin = 0;
  const auto edge = [&] { return total * (static_cast<double>(bin + 1) / static_cast<double>(bins)); };
  const auto close_bin = [&] {
    const double share = mass_at > mass_before ? (edge() - mass_before) / (mass_at - mass_before) : 1.0;
    const double excess = excess_before + share * (excess_at - excess_before);
    gaps += std::fabs(excess - last_edge);
    last_edge = excess;
    ++bin;
  };
  double next = edge();
  for (std::int64_t g = 0; g < ranked.scores && bin < bins; ++g) {
    mass_before = mass_at;
    excess_before = excess_at;
    mass_at += mass[g];
    excess_at += mass[g] * ranked.score[g] - positive[g];
    if (mass_at < next) continue;
    while (bin < bins && mass_at >= edge()) close_bin();
    next = edge();
  }
  while (bin < bins) close_bin();  // where rounding left the sum below the last edge
  return gaps;
}

// out: area under the ROC curve, average precision, calibration error; NaN where one is not defined.
void measure(const Ranked& ranked, const double* weight, std::int64_t bins, double* mass, double* positive,
             double* out) {
  double total = 0.0, positives = 0.0, negatives = 0.0, area = 0.0, gained = 0.0;
  for (std::int64_t g = 0, i = 0; g < ranked.scores; ++g) {
    double here = 0.0, good = 0.0;
    for (; i <= ranked.ends[g]; ++i) {
      const double w = weight[ranked.order[i]];
      here += w;
      good += w * ranked.y[i];
    }
    mass[g] = here;
    positive[g] = good;
    total += here;
    positives += good;
    negatives += here - good;
    area += (here - good) * (positives - 0.5 * good);
    gained += good * (positives / std::max(total, std::numeric_limits<double>::min()));
  }
  out[0] = ratio(area, positives * negatives);
  out[1] = ratio(gained, positives);
  out[2] = ratio(calibration_gaps(ranked, bins, mass, positive, total), total);
}

void require(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(what);
}

Matrix ranking_measures(const Weightings& weight, const Indices& order, const Indices& ends, const Doubles& y,
                        const Doubles& score, std::int64_t bins) {
  const auto rows = static_cast<std::int64_t>(order.size()), scores = static_cast<std::int64_t>(ends.size());
  const auto count = static_cast<std::int64_t>(weight.shape(0));
  require(static_cast<std::int64_t>(weight.shape(1)) == rows && static_cast<std::int64_t>(y.size()) == rows,
          "weight, order and y must have one value a row");
  require(static_cast<std::int64_t>(score.size()) == scores, "score must have one value for each of ends");
  require(bins >= 1, "bins must be 1 or more");
  bool fits = scores == 0 ? rows == 0 : ends.data()[scores - 1] == rows - 1 && ends.data()[0] >= 0;
  for (std::int64_t g = 1; g < scores; ++g) fits &= ends.data()[g - 1] < ends.data()[g];
  for (std::int64_t i = 0; i < rows; ++i) fits &= order.data()[i] >= 0 && order.data()[i] < rows;
  require(fits, "order must hold rows, and ends ascend to the last of them");
  const Ranked ranked{rows, scores, order.data(), ends.data(), y.data(), score.data()};
  std::unique_ptr<double[]> out(new double[static_cast<std::size_t>(std::max<std::int64_t>(count * kMeasures, 1))]);
  {
    const nb::gil_scoped_release released;
    std::vector<double> mass(static_cast<std::size_t>(scores)), positive(static_cast<std::size_t>(scores));
    for (std::int64_t k = 0; k < count; ++k)
      measure(ranked, weight.data() + k * rows, bins, mass.data(), positive.data(), out.get() + k * kMeasures);
  }
  double* values = out.release();
  const nb::capsule owner(values, [](void* p) noexcept { delete[] static_cast<double*>(p); });
  return Matrix(values, {static_cast<std::size_t>(count), static_cast<std::size_t>(kMeasures)}, owner);
}

}  // namespace

NB_MODULE(_ranking, m) {
  // At exit the interpreter may drop a module before those who still refer to its functions: no leak, though nanobind
  // would report one to the user.
  nb::set_leak_warnings(false);
  m.def("ranking_measures", &ranking_measures, "weight"_a.noconvert(), "order"_a.noconvert(), "ends"_a.noconvert(),
        "y"_a.noconvert(), "score"_a.noconvert(), "bins"_a);
}
