// E[sigmoid(eta)] for eta ~ N(linear, variance): see nearline.model.expected.
#include <nanobind/nanobind.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "buffers.hpp"

namespace nb = nanobind;
using nearline::Array;
using nearline::require_that;

namespace {

double sigmoid(double x) {
  const double e = std::exp(-std::fabs(x));
  return x >= 0.0 ? 1.0 / (1.0 + e) : e / (1.0 + e);
}

// Up to a variance `widest`, sum of weight * sigmoid(linear + std * node).
struct Quadrature {
  double widest;
  Array<const double> nodes, weights;

  Quadrature(double widest_, nb::handle nodes_, nb::handle weights_)
      : widest(widest_), nodes(nodes_, "nodes"), weights(weights_, "weights") {
    require_that(nodes.size() == weights.size(), "nodes and weights differ in number");
  }
  double operator()(double linear, double variance) const {
    const double std = std::sqrt(variance);
    double total = 0.0;
    for (int64_t i = 0; i < nodes.size(); ++i) total += weights[i] * sigmoid(linear + std * nodes[i]);
    return total;
  }
};

// Sum of share * Phi(slope * linear / sqrt(1 + slope^2 variance)).
double mixture(const Array<const double>& shares, const Array<const double>& slopes, double linear, double variance) {
  double total = 0.0;
  for (int64_t i = 0; i < shares.size(); ++i) {
    const double slope = slopes[i] / std::sqrt(1.0 + slopes[i] * slopes[i] * variance);
    total += shares[i] * 0.5 * std::erfc(-slope * linear * 0.70710678118654752440);
  }
  return total;
}

void expected_sigmoid(nb::handle linear_array, nb::handle variance_array, nb::list quadratures, nb::handle share_array,
                      nb::handle slope_array, nb::handle out_array) {
  const Array<const double> linear(linear_array, "linear"), variance(variance_array, "variance");
  const Array<const double> shares(share_array, "shares"), slopes(slope_array, "slopes");
  const Array<double> out(out_array, "out");
  require_that(linear.size() == out.size() && variance.size() == out.size() && shares.size() == slopes.size(),
               "arrays differ in length");
  std::vector<Quadrature> rules;
  rules.reserve(quadratures.size());
  for (nb::handle one : quadratures) {
    const auto three = nb::cast<nb::tuple>(one);
    require_that(three.size() == 3, "a quadrature has a variance, nodes and weights");
    rules.emplace_back(nb::cast<double>(three[0]), three[1], three[2]);
  }
  for (int64_t i = 0; i < out.size(); ++i) {
    const auto rule = std::find_if(rules.begin(), rules.end(), [&](const auto& one) { return variance[i] <= one.widest; });
    const double mean = rule != rules.end() ? (*rule)(linear[i], variance[i]) : mixture(shares, slopes, linear[i], variance[i]);
    out[i] = std::min(mean, 1.0);   // the weights sum to 1 but for rounding
  }
}

}  // namespace

NB_MODULE(_response, module) {
  nb::set_leak_warnings(false);
  module.def("expected_sigmoid", &expected_sigmoid);
}
