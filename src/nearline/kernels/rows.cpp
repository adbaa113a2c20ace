// Passes over compressed sparse rows for the linear fixed effect: eta = X b + offset, the loss with its gradient
// and curvature, products with X' C X, its diagonal, and the matrix itself when there are few columns.
//
// Every pass is deterministic. The rows are cut into chunks by the shape of the matrix alone; each chunk adds into
// its own accumulator, in row order, and the accumulators are summed in chunk order. Threads only decide who runs
// a chunk, so any number of them gives the same bits. Threads are std::thread, made per call and joined before it
// returns, which keeps the module safe to fork.
//
// Reading the rows is bound by memory (12 bytes an entry, 8 in single precision): four independent sums in `dot` are
// enough to hide the latency of the gathers. The losses are not: they are computed a block of rows at a time, with
// vector instructions. A row's values are the same in every lane, so where blocks end changes nothing.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "simd.hpp"

namespace nb = nanobind;
using nb::literals::operator""_a;

namespace {

constexpr std::int64_t kMaxChunks = 8;
constexpr std::int64_t kEntriesPerThread = 50'000;  // below this a thread costs more than it saves
constexpr std::int64_t kMatrixBytes = 64 << 20;     // for all accumulators of X' C X together

using Input = nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Starts = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Indices = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Values = nb::ndarray<nb::ro, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Vector = nb::ndarray<nb::numpy, double, nb::ndim<1>>;
using Matrix = nb::ndarray<nb::numpy, double, nb::ndim<2>>;

enum class Outcome { bernoulli = 0, normal = 1, poisson = 2 };

// The losses of a block of rows and their first two derivatives in eta, by canonical link (nearline.posterior.outcomes).
struct Losses {
  static constexpr std::int64_t kRows = 64;
  alignas(64) double y[kRows] = {}, eta[kRows] = {}, loss[kRows], slope[kRows], curvature[kRows];

  // Of the first `count` rows, and some more up to the end of a vector.
  void evaluate(Outcome outcome, std::int64_t count) {
    for (std::int64_t i = 0; i < count; i += nearline::portable::kWidth) {
      switch (outcome) {
        case Outcome::bernoulli: bernoulli(i); break;
        case Outcome::normal: normal(i); break;
        default: poisson(i);
      }
    }
  }

 private:
  using Vec = nearline::portable::Vec;
  Vec at(const double* values, std::int64_t i) const { return nearline::portable::load(values + i); }
  void put(std::int64_t i, Vec l, Vec s, Vec c) {
    nearline::portable::store(loss + i, l);
    nearline::portable::store(slope + i, s);
    nearline::portable::store(curvature + i, c);
  }

  // With e = exp(-|eta|) nothing overflows, and both the rarer share and the other keep full relative precision.
  void bernoulli(std::int64_t i) {
    const Vec h = at(eta, i), t = at(y, i), e = nearline::portable::exp(-nearline::portable::absolute(h));
    const Vec larger = 1.0 / (1.0 + e), rarer = e * larger;
    const Vec one = h < 0.0 ? rarer : larger, zero = h < 0.0 ? larger : rarer;  // the probabilities of 1 and of 0
    const Vec positive = h > 0.0 ? h : Vec{};
    put(i, positive - t * h + nearline::portable::log1p(e), (1.0 - t) * one - t * zero, rarer * larger);
  }

  void normal(std::int64_t i) {
    const Vec residual = at(eta, i) - at(y, i);
    put(i, 0.5 * residual * residual, residual, nearline::portable::splat(1.0));
  }

  void poisson(std::int64_t i) {
    const Vec h = at(eta, i), t = at(y, i), mean = nearline::portable::exp(h);
    put(i, mean - t * h, mean - t, mean);
  }
};

// Neumaier's compensated sum: the total of a million losses is good to its last digits, so that a line search can
// still tell a descent from rounding.
struct Sum {
  double total = 0.0, lost = 0.0;
  void add(double x) {
    const double next = total + x;
    lost += std::fabs(total) >= std::fabs(x) ? (total - next) + x : (x - next) + total;
    total = next;
  }
  double value() const { return std::isfinite(lost) ? total + lost : total; }
};

// x . w over one row, w_j being found at w[stride * j]. Indices were checked to lie in [0, columns).
template <int stride, class T>
inline double dot(const std::int32_t* column, const T* value, std::int64_t count, const double* w) {
  const auto at = [&](std::int64_t k) { return value[k] * w[stride * static_cast<std::size_t>(column[k])]; };
  double s0 = 0.0, s1 = 0.0, s2 = 0.0, s3 = 0.0;
  std::int64_t k = 0;
  for (; k + 4 <= count; k += 4) {
    s0 += at(k);
    s1 += at(k + 1);
    s2 += at(k + 2);
    s3 += at(k + 3);
  }
  for (; k < count; ++k) s0 += at(k);
  return (s0 + s1) + (s2 + s3);
}

// out += scale x over one row, out_j being found at out[stride * j].
template <int stride, class T>
inline void scatter(const std::int32_t* column, const T* value, std::int64_t count, double scale, double* out) {
  for (std::int64_t k = 0; k < count; ++k) out[stride * static_cast<std::size_t>(column[k])] += scale * value[k];
}

// Runs task(0) .. task(count - 1), each once, on up to `threads` threads of which the caller is one. Tasks must not
// throw. If the system refuses a thread the others do its work.
template <class Task>
void parallel(std::int64_t count, std::int64_t threads, const Task& task) {
  std::atomic<std::int64_t> next{0};
  const auto work = [&] {
    for (std::int64_t k = next.fetch_add(1); k < count; k = next.fetch_add(1)) task(k);
  };
  std::vector<std::thread> others;
  const std::int64_t extra = std::min(threads, count) - 1;
  if (extra > 0) others.reserve(static_cast<std::size_t>(extra));
  try {
    for (std::int64_t k = 0; k < extra; ++k) others.emplace_back(work);
  } catch (const std::system_error&) {
  }
  work();
  for (auto& thread : others) thread.join();
}

template <class Array>
Array owned(std::unique_ptr<double[]> values, std::initializer_list<std::size_t> shape) {
  double* raw = values.get();
  nb::capsule owner(raw, [](void* p) noexcept { delete[] static_cast<double*>(p); });
  values.release();
  return Array(raw, shape, owner);
}

std::unique_ptr<double[]> empty(std::int64_t count) {
  return std::unique_ptr<double[]>(new double[static_cast<std::size_t>(std::max<std::int64_t>(count, 1))]);
}

void expect_length(std::size_t found, std::int64_t expected, const char* name) {
  if (static_cast<std::int64_t>(found) != expected)
    throw std::invalid_argument(std::string(name) + ": expected length " + std::to_string(expected) + ", got " +
                                std::to_string(found));
}

class Rows {
 public:
  Rows(Starts starts, Indices indices, Values values, std::int64_t columns)
      : starts_(std::move(starts)), indices_(std::move(indices)), values_(std::move(values)), columns_(columns) {
    start_ = starts_.data();
    column_ = indices_.data();
    single_ = values_.dtype() == nb::dtype<float>();
    if (!single_ && values_.dtype() != nb::dtype<double>())
      throw std::invalid_argument("values: expected float64 or float32");
    check_starts();
    nb::gil_scoped_release released;
    cut();
    check_entries();
  }

  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  std::int64_t entries() const { return entries_; }
  double outer_products() const { return outer_products_; }

  // eta = X b + offset
  Vector margins(const Input& coefficients, const Input& offset, int threads) const {
    expect_length(coefficients.size(), columns_, "coefficients");
    expect_length(offset.size(), rows_, "offset");
    auto eta = empty(rows_);
    {
      nb::gil_scoped_release released;
      with_values([&](const auto* value) {
        const double *b = coefficients.data(), *o = offset.data();
        each_row(threads, [&](std::int64_t, std::int64_t i) {
          eta[i] = o[i] + dot<1>(column_ + start_[i], value + start_[i], start_[i + 1] - start_[i], b);
        });
      });
    }
    return owned<Vector>(std::move(eta), {static_cast<std::size_t>(rows_)});
  }

  // sum_i w_i loss(y_i, eta_i), its gradient X' (w slope), and w curvature: X is read once.
  nb::tuple loss(const Input& coefficients, const Input& offset, const Input& y, const Input& weight, int outcome,
                 int threads) const {
    expect_length(coefficients.size(), columns_, "coefficients");
    expect_length(offset.size(), rows_, "offset");
    expect_length(y.size(), rows_, "y");
    expect_length(weight.size(), rows_, "weight");
    if (outcome < 0 || outcome > 2) throw std::invalid_argument("outcome: expected 0, 1 or 2");
    auto eta = empty(rows_), curvature = empty(rows_), gradient = empty(columns_);
    std::vector<Sum> sums(static_cast<std::size_t>(chunks()));
    {
      nb::gil_scoped_release released;
      with_values([&](const auto* value) {
        const double *o = offset.data(), *target = y.data(), *w = weight.data();
        const auto evaluate = [&](std::int64_t chunk, std::int64_t first, std::int64_t last, double* pairs) {
          Losses rows;
          Sum& sum = sums[static_cast<std::size_t>(chunk)];
          for (std::int64_t from = first; from < last; from += Losses::kRows) {
            const std::int64_t count = std::min(last - from, Losses::kRows);
            for (std::int64_t k = 0; k < count; ++k) {
              const std::int64_t i = from + k, at = start_[i];
              eta[i] = o[i] + dot<2>(column_ + at, value + at, start_[i + 1] - at, pairs);
              rows.eta[k] = eta[i];
              rows.y[k] = target[i];
            }
            rows.evaluate(static_cast<Outcome>(outcome), count);
            for (std::int64_t k = 0; k < count; ++k) {
              const std::int64_t i = from + k, at = start_[i];
              const bool counts = w[i] != 0.0;  // a row of weight 0 is absent even where its loss overflows
              curvature[i] = counts ? w[i] * rows.curvature[k] : 0.0;
              if (!counts) continue;
              sum.add(w[i] * rows.loss[k]);
              scatter<2>(column_ + at, value + at, start_[i + 1] - at, w[i] * rows.slope[k], pairs + 1);
            }
          }
        };
        gather_and_scatter(coefficients, gradient.get(), threads, evaluate);
      });
    }
    Sum total;
    for (const Sum& part : sums) total.add(part.value());
    const auto n = static_cast<std::size_t>(rows_), p = static_cast<std::size_t>(columns_);
    return nb::make_tuple(total.value(), owned<Vector>(std::move(gradient), {p}),
                          owned<Vector>(std::move(curvature), {n}), owned<Vector>(std::move(eta), {n}));
  }

  // X' (c . (X v))
  Vector curvature_product(const Input& curvature, const Input& direction, int threads) const {
    expect_length(curvature.size(), rows_, "curvature");
    expect_length(direction.size(), columns_, "direction");
    auto out = empty(columns_);
    {
      nb::gil_scoped_release released;
      with_values([&](const auto* value) {
        const double* c = curvature.data();
        const auto multiply = [&](std::int64_t, std::int64_t first, std::int64_t last, double* pairs) {
          for (std::int64_t i = first; i < last; ++i) {
            const std::int64_t from = start_[i], count = start_[i + 1] - from;
            const double z = dot<2>(column_ + from, value + from, count, pairs);
            scatter<2>(column_ + from, value + from, count, c[i] * z, pairs + 1);
          }
        };
        gather_and_scatter(direction, out.get(), threads, multiply);
      });
    }
    return owned<Vector>(std::move(out), {static_cast<std::size_t>(columns_)});
  }

  // diag(X' C X)_j = sum_i c_i x_ij^2. Needs rows that name no column twice (scipy's canonical format).
  Vector curvature_diagonal(const Input& curvature, int threads) const {
    expect_length(curvature.size(), rows_, "curvature");
    auto out = empty(columns_);
    {
      nb::gil_scoped_release released;
      Accumulators<1> parts(chunks(), columns_);
      with_values([&](const auto* value) {
        each_row(threads, [&](std::int64_t chunk, std::int64_t i) {
          const double c = curvature.data()[i];
          double* sums = parts.of(chunk);
          for (std::int64_t k = start_[i]; k < start_[i + 1]; ++k) {
            const double x = value[k];
            sums[column_[k]] += c * x * x;
          }
        });
      });
      parts.sum_into(out.get(), useful(threads));
    }
    return owned<Vector>(std::move(out), {static_cast<std::size_t>(columns_)});
  }

  // X' C X, all of it. Only entries on or below the diagonal are added up; the rest is their mirror image. Needs rows
  // whose columns rise (scipy's canonical format).
  Matrix curvature_matrix(const Input& curvature, int threads) const {
    expect_length(curvature.size(), rows_, "curvature");
    const std::int64_t p = columns_, cells = p * p;
    auto matrix = empty(cells);
    {
      nb::gil_scoped_release released;
      const std::int64_t parts_count =
          std::clamp<std::int64_t>(kMatrixBytes / std::max<std::int64_t>(8 * cells, 1), 1, chunks());
      Accumulators<1> parts(parts_count, cells);
      with_values([&](const auto* value) {
        parallel(parts_count, useful(threads), [&](std::int64_t part) {
          double* out = parts.of(part);
          const std::int64_t first = chunks() * part / parts_count, last = chunks() * (part + 1) / parts_count;
          for (std::int64_t i = bound_[first]; i < bound_[last]; ++i) add_outer(value, i, curvature.data()[i], out);
        });
      });
      parts.sum_into(matrix.get(), useful(threads));
      for (std::int64_t j = 0; j < p; ++j)
        for (std::int64_t k = 0; k < j; ++k) matrix[k * p + j] = matrix[j * p + k];
    }
    return owned<Matrix>(std::move(matrix), {static_cast<std::size_t>(p), static_cast<std::size_t>(p)});
  }

 private:
  // One zeroed array a part, and their sum in the order of the parts. Cells do not interact, so summing them in
  // parallel blocks changes nothing. With a stride of 2 the sums lie between the coefficients they belong to.
  template <int stride>
  class Accumulators {
   public:
    Accumulators(std::int64_t count, std::int64_t size)
        : count_(count), size_(size), cells_(static_cast<std::size_t>(stride * count * size)) {}
    double* of(std::int64_t part) { return cells_.data() + stride * part * size_; }
    void sum_into(double* out, std::int64_t threads) {
      constexpr std::int64_t block = 4096;
      parallel((size_ + block - 1) / block, threads, [&](std::int64_t b) {
        for (std::int64_t j = b * block; j < std::min(size_, (b + 1) * block); ++j) {
          double sum = 0.0;
          for (std::int64_t part = 0; part < count_; ++part) sum += of(part)[stride * j + stride - 1];
          out[j] = sum;
        }
      });
    }

   private:
    std::int64_t count_, size_;
    std::vector<double> cells_;
  };

  std::int64_t chunks() const { return static_cast<std::int64_t>(bound_.size()) - 1; }

  std::int64_t useful(int threads) const {
    return std::clamp<std::int64_t>(threads, 1, 1 + entries_ / kEntriesPerThread);
  }

  template <class F>
  void with_values(const F& f) const {
    if (single_)
      f(static_cast<const float*>(values_.data()));
    else
      f(static_cast<const double*>(values_.data()));
  }

  // row(chunk, i) for every row, chunks in parallel, rows of a chunk in order.
  template <class F>
  void each_row(int threads, const F& row) const {
    parallel(chunks(), useful(threads), [&](std::int64_t chunk) {
      for (std::int64_t i = bound_[chunk]; i < bound_[chunk + 1]; ++i) row(chunk, i);
    });
  }

  // rows(chunk, first, last, pairs) for every chunk; pairs[2 j] is in_j and pairs[2 j + 1] what the rows add to, summed
  // into `out`. Side by side, the dot product of a row fetches the cache lines that its scatter then writes.
  template <class F>
  void gather_and_scatter(const Input& in, double* out, int threads, const F& rows) const {
    Accumulators<2> parts(chunks(), columns_);
    parallel(chunks(), useful(threads), [&](std::int64_t chunk) {
      double* pairs = parts.of(chunk);
      for (std::int64_t j = 0; j < columns_; ++j) pairs[2 * j] = in.data()[j];
      rows(chunk, bound_[chunk], bound_[chunk + 1], pairs);
    });
    parts.sum_into(out, useful(threads));
  }

  template <class T>
  void add_outer(const T* value, std::int64_t i, double c, double* out) const {
    for (std::int64_t a = start_[i]; a < start_[i + 1]; ++a) {
      const double scaled = c * value[a];
      double* line = out + column_[a] * columns_;
      for (std::int64_t b = start_[i]; b <= a; ++b) line[column_[b]] += scaled * value[b];
    }
  }

  void check_starts() {
    if (columns_ < 1 || columns_ > std::numeric_limits<std::int32_t>::max())
      throw std::invalid_argument("columns: expected 1 to 2^31 - 1, got " + std::to_string(columns_));
    if (starts_.size() < 1) throw std::invalid_argument("indptr: expected at least one entry, got none");
    rows_ = static_cast<std::int64_t>(starts_.size()) - 1;
    entries_ = static_cast<std::int64_t>(indices_.size());
    expect_length(values_.size(), entries_, "values");
    if (start_[0] != 0 || start_[rows_] != entries_)
      throw std::invalid_argument("indptr: expected to run from 0 to the number of entries, " +
                                  std::to_string(entries_));
    for (std::int64_t i = 0; i < rows_; ++i) {
      if (start_[i] > start_[i + 1])
        throw std::invalid_argument("indptr: expected never to decrease, but it does after row " + std::to_string(i));
      const auto count = static_cast<double>(start_[i + 1] - start_[i]);
      outer_products_ += count * count;
    }
  }

  // Chunks of about equal work; fewer than eight where the accumulators would outweigh the matrix.
  void cut() {
    const std::int64_t count = std::clamp<std::int64_t>(entries_ / columns_, 1, kMaxChunks);
    const std::int64_t work = entries_ + rows_;
    bound_.assign(1, 0);
    for (std::int64_t chunk = 1; chunk < count; ++chunk) {
      std::int64_t low = bound_.back(), high = rows_;
      while (low < high) {
        const std::int64_t middle = low + (high - low) / 2;
        if (start_[middle] + middle < work / count * chunk)
          low = middle + 1;
        else
          high = middle;
      }
      bound_.push_back(low);
    }
    bound_.push_back(rows_);
  }

  // Once per matrix, so that no pass needs to look: indices in range, values finite.
  void check_entries() const {
    std::atomic<std::int64_t> outside{-1}, infinite{-1};
    const auto size = static_cast<std::uint32_t>(columns_);
    with_values([&](const auto* value) {
      constexpr std::int64_t block = 1 << 16;
      parallel((entries_ + block - 1) / block, useful(2), [&](std::int64_t b) {
        const std::int64_t from = b * block, to = std::min(entries_, from + block);
        std::uint32_t largest = 0;  // a negative index is large when read as unsigned
        bool finite = true;
        for (std::int64_t k = from; k < to; ++k) {
          largest = std::max(largest, static_cast<std::uint32_t>(column_[k]));
          finite &= std::fabs(value[k]) <= std::numeric_limits<double>::max();
        }
        if (largest >= size) outside = b;
        if (!finite) infinite = b;
      });
    });
    if (outside >= 0)
      throw std::invalid_argument("indices: expected all of them in [0, " + std::to_string(columns_) +
                                  "), found one outside");
    if (infinite >= 0) throw std::invalid_argument("values: expected finite numbers, found NaN or infinity");
  }

  Starts starts_;
  Indices indices_;
  Values values_;
  const std::int64_t* start_ = nullptr;
  const std::int32_t* column_ = nullptr;
  bool single_ = false;
  std::int64_t rows_ = 0, columns_ = 0, entries_ = 0;
  double outer_products_ = 0.0;
  std::vector<std::int64_t> bound_;
};

}  // namespace

NB_MODULE(_rows, m) {
  // At exit the interpreter may drop a module before those who still refer to its functions: no leak, though nanobind
  // would report one to the user.
  nb::set_leak_warnings(false);
  nb::class_<Rows>(m, "Rows")
      .def(nb::init<Starts, Indices, Values, std::int64_t>(), "indptr"_a.noconvert(), "indices"_a.noconvert(),
           "values"_a.noconvert(), "columns"_a)
      .def_prop_ro("rows", &Rows::rows)
      .def_prop_ro("columns", &Rows::columns)
      .def_prop_ro("entries", &Rows::entries)
      .def_prop_ro("outer_products", &Rows::outer_products)
      .def("margins", &Rows::margins, "coefficients"_a, "offset"_a, nb::kw_only(), "threads"_a = 1)
      .def("loss", &Rows::loss, "coefficients"_a, "offset"_a, "y"_a, "weight"_a, "outcome"_a, nb::kw_only(),
           "threads"_a = 1)
      .def("curvature_product", &Rows::curvature_product, "curvature"_a, "direction"_a, nb::kw_only(),
           "threads"_a = 1)
      .def("curvature_diagonal", &Rows::curvature_diagonal, "curvature"_a, nb::kw_only(), "threads"_a = 1)
      .def("curvature_matrix", &Rows::curvature_matrix, "curvature"_a, nb::kw_only(), "threads"_a = 1);
}
