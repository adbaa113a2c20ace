// What the entry points exchange with Python: plain pointers, one struct per job. Shared by all instruction sets.
#pragma once

#include <cstdint>

namespace nearline {

enum Outcome : int { kBernoulli = 0, kNormal = 1, kPoisson = 2 };

// One byte per entity; nearline.posterior.Status names them.
enum Status : int8_t {
  kLearned = 0,
  kNoRows = 1,
  kNotPositiveDefinite = 2,
  kNotConverged = 3,
  kNotFinite = 4,
  kFeatureOutsideBlock = 5,
};

enum Method : int { kChoose = 0, kPrimal = 1, kDual = 2, kConjugateGradients = 3 };

// Rows of features, dense or CSR, grouped by entity: entity e owns rows row[row_start[e] .. row_start[e + 1]).
struct Rows {
  const double* dense = nullptr;     // [rows][columns], or
  const float* dense32 = nullptr;    // the same in single precision, or
  const int64_t* indptr = nullptr;   // CSR over `columns` columns
  const int32_t* indices = nullptr;
  const double* values = nullptr;
  int64_t columns = 0;
  const int64_t* row = nullptr;      // null: row i is row i
  const int64_t* row_start = nullptr;
};

// Gaussian blocks: entity e has the columns column[start[e] .. start[e + 1]), ascending. `mean` is laid out
// alike; a full precision is the packed upper triangle, row by row, of each block in turn, beginning at
// packed_start[e]; a diagonal one is laid out like the mean. `shared`: one block over all columns for everybody.
// Of a single belief a full precision may also come unpacked, as a square.
struct Blocks {
  int64_t entities = 0;
  const int32_t* column = nullptr;   // null: every block is columns 0 .. d - 1
  const int64_t* start = nullptr;
  const int64_t* packed_start = nullptr;
  double* mean = nullptr;
  double* precision = nullptr;
  bool full = true;
  bool shared = false;
  bool packed = true;
};

struct UpdateJob {
  Rows rows;
  const double* y = nullptr;
  const double* weight = nullptr;    // null: ones
  const double* offset = nullptr;    // null: zeros
  Blocks prior;
  Blocks posterior;
  const double* start = nullptr;     // laid out like the posterior's mean: where to begin; null: at the prior mean
  int outcome = kBernoulli;
  int method = kChoose;
  double tolerance = 1e-10;          // on the squared Newton decrement, in units of log likelihood
  int max_steps = 100;
  int8_t* status = nullptr;          // [entities]
  int32_t* steps = nullptr;          // [entities]
  uint8_t* row_learned = nullptr;    // [rows]; 0 where a value of the row is not finite or not allowed
};

struct ScoreJob {
  Rows rows;
  Blocks beliefs;
  double* mean = nullptr;            // [rows of the feature matrix] x . mean
  double* variance = nullptr;        // x' precision^-1 x, or null
  const double* factor = nullptr;    // of the precisions, from FactorJob; null: factored here
  int8_t* status = nullptr;
};

// Draws of scores (see nearline.posterior.draws): in each, one joint draw of an entity's coefficients.
struct DrawJob {
  Rows rows;
  Blocks beliefs;
  const double* factor = nullptr;    // of the precisions, from FactorJob; null: factored here
  const uint64_t* key = nullptr;     // [entities]
  uint64_t request = 0;
  uint64_t first = 0;                // number of the first draw
  int64_t draws = 0;
  int64_t count = 0;                 // rows of the feature matrix
  double* scores = nullptr;          // [draws][count]: x . b is added
  int8_t* status = nullptr;
};

// Full precisions = U' U: the upper triangles U, laid out like the precisions.
struct FactorJob {
  Blocks beliefs;
  double* factor = nullptr;
  int8_t* status = nullptr;
};

// Sums over entities of what maximising the marginal likelihood needs (see posterior/prior.py).
struct MomentsJob {
  Rows rows;
  const double* y = nullptr;
  const double* weight = nullptr;
  const double* offset = nullptr;
  Blocks beliefs;
  int outcome = kBernoulli;
  const double* center = nullptr;    // [columns] population mean
  const double* other_variance = nullptr;  // [rows] of the rest of each row's predictor, or null: none
  double* leverage = nullptr;        // [rows] x' V x
  double* pull = nullptr;            // [rows] x' V t, t = sum_i w_i c'_i h_i x_i: the skewness of the posterior
  double* covariance_sum = nullptr;  // [chunks][columns][columns] or [chunks][columns] (diagonal)
  double* square_sum = nullptr;      // likewise, of (mean - center)(mean - center)' - sym(V s (mean - center)'),
                                     // s: as t, of h_i + other_variance_i
  double* mean_sum = nullptr;        // [chunks][columns] of mean - V s / 2
  double* log_determinant = nullptr; // [entities] log det precision
  int8_t* status = nullptr;
};

// Population prior + evidence -> mean and precision over the wanted columns; and the reverse.
struct CompleteJob {
  Blocks evidence;                   // mean holds the shift; `full` says how precision is laid out
  const double* keep = nullptr;      // [entities] factor on the evidence, null: 1
  Blocks prior;                      // shared
  int64_t columns = 0;
  Blocks belief;
  int8_t* status = nullptr;
};

// Evidence + mini-batches of rows, one after the other -> evidence. `rows` are grouped by mini-batch.
struct LearnJob {
  Rows rows;
  const int64_t* batch_start = nullptr;  // [entities + 1]; entity e owns the mini-batches from batch_start[e] on
  const double* y = nullptr;
  const double* weight = nullptr;
  const double* offset = nullptr;
  const double* keep = nullptr;      // [batches] factor on the evidence before each, null: 1
  Blocks prior;                      // shared
  Blocks before;                     // evidence: mean holds the shift
  Blocks after;                      // likewise, over the columns of `before` and those that rows touch
  int outcome = kBernoulli;
  double tolerance = 1e-10;
  int max_steps = 100;
  int8_t* status = nullptr;          // [batches]
  int32_t* steps = nullptr;          // [batches]
  uint8_t* row_learned = nullptr;    // [rows]
};

constexpr int64_t kChunks = 16;      // fixed, so that sums over entities do not depend on the number of threads

}  // namespace nearline
