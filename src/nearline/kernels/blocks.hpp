// How blocks and rows lie in memory: sizes, packed triangles, the places of columns.
#pragma once

#include <limits>

#include "problem.hpp"
#include "solve.hpp"

namespace nearline::NEARLINE_ISA {

// Gathers rather than asks, for the sake of vector instructions.
template <class T>
inline bool all_finite(const T* values, int64_t n) {
  int wrong = 0;
  for (int64_t j = 0; j < n; ++j) wrong |= !(std::fabs(values[j]) <= std::numeric_limits<T>::max());
  return wrong == 0;
}

inline int64_t packed_size(int64_t d) { return d * (d + 1) / 2; }

inline int64_t block_size(const Blocks& blocks, int64_t e) {
  return blocks.shared ? blocks.start[1] - blocks.start[0] : blocks.start[e + 1] - blocks.start[e];
}

// Upper triangle of dimension d, packed or in a square, <-> padded square with a unit diagonal in the padding.
inline void unpack(const double* from, int64_t d, int64_t dp, double* square, bool packed = true) {
  std::fill(square, square + dp * dp, 0.0);
  for (int64_t i = 0; i < d; from += packed ? d - i : d + 1, ++i) {   // from element (i, i) to the next
    std::copy(from, from + (d - i), square + i * dp + i);
    for (int64_t j = i + 1; j < std::min(d, (i / kBlock + 1) * kBlock); ++j) square[j * dp + i] = from[j - i];
  }
  for (int64_t i = d; i < dp; ++i) square[i * dp + i] = 1.0;
}

inline void pack(const double* square, int64_t d, int64_t dp, double* to, bool packed = true) {
  for (int64_t i = 0; i < d; to += packed ? d - i : d + 1, ++i) std::copy(square + i * dp + i, square + i * dp + d, to);
}

// In blocks: the lines that are read stay in the cache, and the writes go along rows.
inline void copy_upper_to_lower(double* square, int64_t d) {
  for (int64_t from = 0; from < d; from += kBlock)
    for (int64_t i = from + 1; i < d; ++i)
      for (int64_t j = from; j < std::min(i, from + kBlock); ++j) square[i * d + j] = square[j * d + i];
}

inline double feature(const Rows& rows, int64_t row, int64_t j) {
  return rows.dense ? rows.dense[row * rows.columns + j] : static_cast<double>(rows.dense32[row * rows.columns + j]);
}

// Where the block's columns lie in it; -1 for those it lacks. Sparse rows only.
class Places {
 public:
  Places(const Rows& rows, const Blocks& blocks, int64_t e, Workspace& ws)
      : column_(blocks.column ? blocks.column + (blocks.shared ? blocks.start[0] : blocks.start[e]) : nullptr),
        size_(block_size(blocks, e)) {
    if (!rows.indptr || !column_ || size_ == 0) return;
    first_ = column_[0];
    if (column_[size_ - 1] - first_ == size_ - 1) {   // without gaps
      column_ = nullptr;
      return;
    }
    if (static_cast<int64_t>(ws.position.size()) < rows.columns) ws.position.resize(static_cast<size_t>(rows.columns), 0);
    position_ = ws.position.data();
    for (int64_t j = 0; j < size_; ++j) position_[column_[j]] = static_cast<int32_t>(j);
  }
  int32_t find(int32_t column) const {
    if (!column_ || size_ == 0) return column >= first_ && column - first_ < size_ ? column - first_ : -1;
    const int32_t j = position_[column];   // may be left over from another entity
    return j < size_ && column_[j] == column ? j : -1;
  }

 private:
  const int32_t* column_;
  int64_t size_;
  int32_t first_ = 0;
  int32_t* position_ = nullptr;
};

// One belief, unpacked and factored: P = U' U in ws kHessian, or the diagonal in ws kPrior.
struct Belief {
  int64_t d, dp;
  const double* mean;
  double* u = nullptr;
  const double* diagonal = nullptr;
};

// False if it is not positive definite. `factors`, if there are any, are laid out like the precisions.
inline bool open_belief(const Blocks& blocks, int64_t e, Workspace& ws, bool factor, Belief& belief,
                        const double* factors = nullptr) {
  belief.d = block_size(blocks, e);
  belief.dp = padded(belief.d);
  belief.mean = blocks.mean + (blocks.shared ? 0 : blocks.start[e]);
  if (!blocks.full) {
    belief.diagonal = blocks.precision + (blocks.shared ? 0 : blocks.start[e]);
    for (int64_t j = 0; j < belief.d; ++j)
      if (!(belief.diagonal[j] > 0.0)) return false;
    return true;
  }
  if (!factor) return true;
  belief.u = ws.get(kHessian, belief.dp * belief.dp);
  const int64_t from = blocks.shared ? 0 : blocks.packed_start[e];
  unpack((factors ? factors : blocks.precision) + from, belief.d, belief.dp, belief.u);
  return factors || cholesky(belief.u, belief.dp, ws.get(kPanel, kBlock * belief.dp));
}

// Row `row` as a vector over the block, padded with zeros. False if a feature lies outside the block.
inline bool gather_row(const Rows& rows, int64_t row, const Places& places, const Belief& belief, double* x) {
  std::fill(x, x + belief.dp, 0.0);
  if (!rows.indptr) {
    for (int64_t j = 0; j < belief.d; ++j) x[j] = feature(rows, row, j);
    return true;
  }
  for (int64_t k = rows.indptr[row]; k < rows.indptr[row + 1]; ++k) {
    const int32_t j = places.find(rows.indices[k]);
    if (j < 0) return false;
    x[j] += rows.values[k];
  }
  return true;
}

}  // namespace nearline::NEARLINE_ISA
