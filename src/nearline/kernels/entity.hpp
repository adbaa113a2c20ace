// The jobs as compiled for each instruction set; each works on the entities [from, to).
#pragma once

#include "problem.hpp"

#define NEARLINE_DECLARE(isa)                                                      \
  namespace nearline::isa {                                                        \
  void run_update(const UpdateJob& job, int64_t from, int64_t to);                 \
  void run_learn(const LearnJob& job, int64_t from, int64_t to);                   \
  void run_score(const ScoreJob& job, int64_t from, int64_t to);                   \
  void run_draw(const DrawJob& job, int64_t from, int64_t to);                     \
  void run_factor(const FactorJob& job, int64_t from, int64_t to);                 \
  void run_moments(const MomentsJob& job, int64_t chunk, int64_t from, int64_t to); \
  void run_complete(const CompleteJob& job, int64_t from, int64_t to);             \
  void run_extract(const CompleteJob& job, int64_t from, int64_t to);              \
  }

NEARLINE_DECLARE(portable)
NEARLINE_DECLARE(v3)
NEARLINE_DECLARE(v4)
