// What the operations in C++ share. native_build.py compiles their files once for each instruction set,
// with LANES and INSTRUCTIONS defined and without any C++ header, so that no function of the standard
// library has instructions that a machine may lack; and once without them for TensorFlow. Each file has a
// namespace, and there a Kernel, which does the work, for each instruction set.
#pragma once
#include <stdint.h>
#ifndef INSTRUCTIONS
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/util/work_sharder.h"
#endif
namespace capsnet {
constexpr int64_t PARTS = 16;  // of the work at most, whatever the number of threads
// Calls call(body, i) for each i from 0 to count - 1, in several threads.
struct Threads {
  void (*run)(void* pool, int64_t count, void (*call)(void*, int64_t), void* body);
  void* pool;
};
namespace {
#ifdef INSTRUCTIONS
typedef float V __attribute__((vector_size(LANES * 4), aligned(4)));
typedef uint32_t U __attribute__((vector_size(LANES * 4), aligned(4)));
template <class Body>
void each(const Threads& threads, int64_t count, Body body) {
  threads.run(threads.pool, count, [](void* b, int64_t i) { (*static_cast<Body*>(b))(i); }, &body);
}
template <int SIZE> struct Size { enum { value = SIZE }; };
// Calls body(Size, k) for pieces of 0 to count - 1, each as large as fits: of SIZE, its half and so on,
// or with EVERY of all sizes up to SIZE.
template <int SIZE, bool EVERY = false, class Body>
inline void pieces(int64_t count, Body body, int64_t k = 0) {
  for (; k + SIZE <= count; k += SIZE) body(Size<SIZE>(), k);
  if constexpr (SIZE > 1) pieces<EVERY ? SIZE - 1 : SIZE / 2, EVERY>(count, body, k);
}
// Calls body(n) for each n of a Size, unrolled: compilers keep an array of vectors that a loop runs over
// in memory, and one with constant places in registers.
template <class Piece, class Body>
inline void unrolled(Piece, Body body) {
#ifdef __clang__
#pragma unroll
#else
#pragma GCC unroll 16
#endif
  for (int n = 0; n < Piece::value; ++n) body(n);
}
// Lane l is number from[l] of those of a and b.
inline V picked(V a, V b, U from) {
#ifdef __clang__
  V result;
  for (int l = 0; l < LANES; ++l) result[l] = from[l] < LANES ? a[from[l]] : b[from[l] - LANES];
  return result;
#else
  return __builtin_shuffle(a, b, from);
#endif
}
// A vector whose lane n is the sum of the lanes of v[n]: each step adds the halves of two vectors.
template <int HALF = LANES / 2>
inline V totals(V* v) {
  U low;
  for (int l = 0; l < LANES; ++l) low[l] = l / HALF % 2 * LANES + l / (2 * HALF) * 2 * HALF + l % HALF;
  unrolled(Size<HALF>(), [&](int n) {
    v[n] = picked(v[n], v[n + HALF], low) + picked(v[n], v[n + HALF], low + (uint32_t)HALF);
  });
  if constexpr (HALF > 1) return totals<HALF / 2>(v);
  return v[0];
}
#else
using namespace tensorflow;
Threads threads_of(OpKernelContext* context) {
  using Workers = DeviceBase::CpuWorkerThreads;
  auto run = [](void* pool, int64_t count, void (*call)(void*, int64_t), void* body) {
    constexpr int64_t COST = 1000000;  // in cycles; with less, some threads might get nothing to do
    const Workers* workers = static_cast<const Workers*>(pool);
    Shard(workers->num_threads, workers->workers, count, COST, [=](int64_t i, int64_t end) {
      for (; i < end; ++i) call(body, i);
    });
  };
  return {run, const_cast<Workers*>(context->device()->tensorflow_cpu_worker_threads())};
}
template <class Kernel> struct Choice { const char* name; Kernel* kernel; bool is_there; };
#ifdef __x86_64__
#define HAS __builtin_cpu_supports
#define KERNELS                                                                                  \
  {{"avx512", &avx512, HAS("avx512bw") && HAS("avx512dq") && HAS("avx512vl")},                   \
   {"avx2", &avx2, HAS("avx2") && HAS("fma")}, {"plain", &plain, true}}
#else
#define KERNELS {{"plain", &plain, true}}
#endif
// Takes the kernel that the attribute `instructions` names; if that is empty, the machine's fastest one.
template <class Kernel>
void choose(OpKernelConstruction* context, Kernel** kernel,
            std::initializer_list<Choice<Kernel>> kernels) {
  std::string name;
  OP_REQUIRES_OK(context, context->GetAttr("instructions", &name));
  for (const Choice<Kernel>& each : kernels)
    if (!*kernel && each.is_there && (name.empty() || name == each.name)) *kernel = each.kernel;
  OP_REQUIRES(context, *kernel, errors::InvalidArgument("This machine has no ", name, "."));
}
#endif
}  // namespace
}  // namespace capsnet
