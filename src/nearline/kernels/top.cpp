// The places of the highest of many rows of scores.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <stdexcept>
#include <vector>

#include "top.hpp"

namespace nb = nanobind;

namespace {

using Scores = nb::ndarray<const double, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Places = nb::ndarray<int64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// Each row of `places` [n, k] <- the places of the k highest of the same row of `scores` [n, C].
void top(const Scores& scores, const Places& places) {
  const int64_t n = static_cast<int64_t>(scores.shape(0)), count = static_cast<int64_t>(scores.shape(1));
  const int64_t k = static_cast<int64_t>(places.shape(1));
  if (static_cast<int64_t>(places.shape(0)) != n || k > count)
    throw std::invalid_argument("places must have a row for each of scores, and no more columns");
  std::vector<int64_t> order;
  const nb::gil_scoped_release release;
  for (int64_t row = 0; row < n; ++row) {
    nearline::find_top(scores.data() + row * count, count, k, places.data() + row * k, order);
  }
}

}  // namespace

NB_MODULE(_top, module) {
  nb::set_leak_warnings(false);   // as in posterior.cpp
  module.def("top", &top, nb::arg("scores"), nb::arg("places").noconvert());
}
