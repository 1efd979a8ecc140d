// Routing by agreement (Procedure 1 of Sabour, Frosst, Hinton 2017) and its exact gradient for a CPU.
//
// native_build.py compiles this file once for each instruction set, with LANES and INSTRUCTIONS
// defined and without any C++ header, so that no function of the standard library has instructions
// that a machine may lack; and once without them for TensorFlow.
//
// A vector holds the same number of LANES images, a block. So only the gradient of W needs sums inside
// of a vector. The predictions u_hat = W u, parents * dim vectors for a child of a block, stay in the
// first cache and are made again in each pass over the children. Children are summed up in PARTS and in
// the same order, so results do not depend on the number of threads.
#include <stdint.h>

namespace capsnet {

struct Sizes {
  int64_t images, children, parents, child_dim, dim, iterations;
  int64_t none_of_the_above;  // 1: one more logit, always 0, in the softmax; or 0
  int64_t all;                // 1: the gradient flows through all iterations; 0: the last one only
};

// v [images, parents, dim] is made from u [images, children, child_dim] and w [children, parents,
// child_dim, dim]. `sums`, s of all iterations, is what the forward pass leaves to the backward pass.
struct Arrays {
  const float *u, *w, *dv;
  float *v, *du, *dw, *sums, *space;
};

// Calls call(body, i) for each i from 0 to count - 1, in several threads.
struct Threads {
  void (*run)(void* pool, int64_t count, void (*call)(void*, int64_t), void* body);
  void* pool;
};

constexpr int64_t PARTS = 16;

// How many numbers `sums` has, and `space`: one part of it and all of it.
struct Space {
  int64_t sums, part, forward, backward;
  Space(const Sizes& z, int64_t lanes) {
    const int64_t blocks = (z.images + lanes - 1) / lanes, pair = z.parents * z.dim;
    const int64_t kept = z.all ? z.iterations - 1 : 1;
    const int64_t coefficients = (z.all ? 2 * kept : 1) * z.children * blocks * z.parents;
    // Sums, and the predictions and coefficients of a child; or the gradients of each_gradient.
    const int64_t child = blocks * (z.child_dim + z.dim);
    part = blocks * pair + pair + 2 * z.parents;
    part = lanes * (part > child ? part : child);
    sums = lanes * z.iterations * blocks * pair;
    forward = lanes * blocks * (z.children * z.child_dim + pair) + PARTS * part;
    backward = forward + lanes * ((1 + 2 * kept) * blocks * pair + coefficients);
  }
};

struct Kernel {
  int64_t lanes;
  void (*forward)(const Sizes&, const Threads&, const Arrays&);   // makes v and sums
  void (*backward)(const Sizes&, const Threads&, const Arrays&);  // makes du and dw
};

}  // namespace capsnet

#ifdef INSTRUCTIONS

namespace capsnet {
namespace {

typedef float V __attribute__((vector_size(LANES * 4), aligned(4)));
typedef uint32_t U __attribute__((vector_size(LANES * 4), aligned(4)));

constexpr int TILE = LANES < 16 ? 8 : 16;  // vectors that the registers hold as sums

template <class Body>
void each(const Threads& threads, int64_t count, Body body) {
  threads.run(threads.pool, count, [](void* b, int64_t i) { (*static_cast<Body*>(b))(i); }, &body);
}

template <int SIZE>
struct Size {
  enum { value = SIZE };
};

// Calls body(Size, k) for pieces of 0 to count - 1, each as large as fits.
template <int SIZE, class Body>
inline void pieces(int64_t count, Body body, int64_t k = 0) {
  for (; k + SIZE <= count; k += SIZE) body(Size<SIZE>(), k);
  if constexpr (SIZE > 1) pieces<SIZE / 2>(count, body, k);
}

// e^x for x <= 0, as 2^r p with a whole number r. The polynomial p is 2^f for f from -1/2 to 1/2, to
// two units in the last place. NaN stays NaN.
inline V exponential(V x) {
  const V t = (x < -87.0f ? V{} - 87.0f : x) * 1.44269504f;
  const V shifted = t + 12582912.0f;  // 1.5 * 2^23: the sum has r in its low bits
  const V f = t - (shifted - 12582912.0f);
  V p = f * 1.54035304e-4f + 1.33335581e-3f;
  p = p * f + 9.61812911e-3f;
  p = p * f + 5.55041087e-2f;
  p = p * f + 2.40226507e-1f;
  p = p * f + 6.93147182e-1f;
  p = p * f + 1.0f;
  const V power = (V)((U)p + ((U)shifted << 23));
  return x == x ? power : x;
}

// c = softmax over the parents of the logits (Eq. 3), in place.
inline void softmax(const Sizes& z, V* logits) {
  V largest = z.none_of_the_above ? V{} : logits[0];
  for (int64_t j = 0; j < z.parents; ++j) largest = logits[j] > largest ? logits[j] : largest;
  V total = z.none_of_the_above ? exponential(V{} - largest) : V{};
  for (int64_t j = 0; j < z.parents; ++j) total += logits[j] = exponential(logits[j] - largest);
  const V share = 1.0f / total;
  for (int64_t j = 0; j < z.parents; ++j) logits[j] *= share;
}

inline V clipped(V x) { return x > 1e17f ? V{} + 1e17f : x < -1e17f ? V{} - 1e17f : x; }

// v = squash(s) of a parent (Eq. 1), or where `dv` is given the gradient of s. The formulas and
// their bounds are those of `squash` in routing.py.
inline void squash(int64_t dim, const V* s, const V* dv, V* result) {
  V square = V{}, along = V{}, norm;
  for (int64_t k = 0; k < dim; ++k) {
    square += clipped(s[k]) * clipped(s[k]);
    if (dv) along += clipped(s[k]) * dv[k];
  }
  for (int l = 0; l < LANES; ++l) norm[l] = __builtin_sqrtf(square[l]);
  norm = norm < 1e-18f ? V{} + 1e-18f : norm;
  const V scale = 1.0f / (norm + 1.0f / norm);
  const V longest = (1 - 8 * 1.1920929e-7f) / norm;
  const V value = longest < scale ? longest : scale;
  const V turn = scale * (1.0f - 2.0f * norm * scale) * (along / norm) / norm;
  for (int64_t k = 0; k < dim; ++k)
    result[k] = dv ? scale * dv[k] + turn * clipped(s[k]) : value * clipped(s[k]);
}

// Adds SIZE numbers of a parent's u_hat to `sums`; `w` begins at the first of them.
template <int SIZE>
inline void predict(const Sizes& z, const V* u, const float* w, V* sums) {
  for (int64_t d = 0; d < z.child_dim; ++d, w += z.dim)
    for (int k = 0; k < SIZE; ++k) sums[k] += u[d] * w[k];
}

// Sizes count vectors from here on. u is [children, blocks, child_dim]; s, v, x (the sum of the v of
// all earlier iterations) and their gradients are [blocks, parents, dim]; coefficients, c and the
// gradients of the logits, are [children, blocks, parents].
class Routing {
 public:
  Routing(const Sizes& sizes, const Threads& threads, const Arrays& arrays)
      : z(sizes), threads(threads), arrays(arrays), blocks((z.images + LANES - 1) / LANES),
        pair(z.parents * z.dim), size(blocks * pair), coupled(z.children * blocks * z.parents),
        parts(z.children < PARTS ? z.children : PARTS), part_size(Space(z, LANES).part / LANES),
        even(1.0f / (z.parents + z.none_of_the_above)), left(reinterpret_cast<V*>(arrays.space)),
        u(take(z.children * blocks * z.child_dim)), partial(take(parts * part_size)),
        s(reinterpret_cast<V*>(arrays.sums)) {
    of_each_child([=](int64_t i, V*) {
      for (int64_t b = 0; b < blocks; ++b)
        load(this->arrays.u + i * z.child_dim, z.children * z.child_dim, b, z.child_dim,
             u + (i * blocks + b) * z.child_dim);
    });
  }

  void forward() {
    V* x = take(size);
    for (int64_t t = 0; t < z.iterations; ++t) {
      t ? route<false>(x, nullptr, nullptr, nullptr) : predict_evenly();
      of_each_parent([=](int64_t at, int64_t b, int64_t j) {
        V *sums = s + t * size + at, *v = partial + at;  // v takes the place of one part's sums
        add_parts(at, t ? 1.0f : even, nullptr, sums);
        squash(z.dim, sums, nullptr, v);
        for (int64_t k = 0; k < z.dim; ++k) x[at + k] = t ? x[at + k] + v[k] : v[k];
        if (t == z.iterations - 1) store(v, b, z.dim, arrays.v + j * z.dim, pair);
      });
    }
  }

  // The gradient of u_hat is a sum of terms coefficient * vector: of each iteration but the first
  // one, c * ds and db * x, of the first one ds / the number of logits.
  void backward() {
    const int64_t kept = z.all ? z.iterations - 1 : 1, terms = z.all ? 2 * kept : 1;
    V *dx = take(size), *ds = take(size), *vectors = take(2 * kept * size), *c = take(terms * coupled);
    of_each_parent([=](int64_t at, int64_t b, int64_t j) {
      load(arrays.dv + j * z.dim, pair, b, z.dim, dx + at);
      V* x = vectors + size + at;
      for (int64_t t = 1; t < z.iterations; ++t) {  // x of iteration t
        V *next = vectors + (z.all ? 2 * t - 1 : 1) * size + at, *v = partial + at;
        squash(z.dim, s + (t - 1) * size + at, nullptr, v);
        for (int64_t k = 0; k < z.dim; ++k) next[k] = t > 1 ? x[k] + v[k] : v[k];
        x = next;
      }
    });
    for (int64_t t = z.iterations - 1; t >= 0; --t) {
      const int64_t term = z.all ? 2 * t - 2 : 0, later = z.iterations - 1 - t;
      V* of_s = t ? vectors + term * size : ds;
      of_each_parent([=](int64_t at, int64_t, int64_t) {
        if (later) add_parts(at, 1.0f, later > 1 ? dx + at : nullptr, dx + at);
        squash(z.dim, s + t * size + at, dx + at, of_s + at);
      });
      if (t) route<true>(of_s + size, of_s, c + term * coupled, c + (term + 1) * coupled);
      if (!z.all) break;
    }
    each_gradient(z.all ? ds : nullptr, terms, c, vectors);
  }

 private:
  // The next vectors of the space.
  V* take(int64_t count) { return (left += count) - count; }

  // Calls body(child, its part's space).
  template <class Body>
  void of_each_child(Body body) {
    each(threads, parts, [=](int64_t part) {
      for (int64_t i = first(part); i < first(part + 1); ++i) body(i, partial + part * part_size);
    });
  }
  int64_t first(int64_t part) const { return z.children * part / parts; }

  // Calls body(the index of its first vector, block, parent).
  template <class Body>
  void of_each_parent(Body body) {
    each(threads, blocks * z.parents,
         [=](int64_t n) { body(n * z.dim, n / z.parents, n % z.parents); });
  }

  // Numbers of a block's images, each in a row of its own, as vectors; 0 where there is no image.
  void load(const float* rows, int64_t row, int64_t block, int64_t count, V* vectors) const {
    float* numbers = reinterpret_cast<float*>(vectors);
    for (int64_t l = 0, n = block * LANES; l < LANES; ++l, ++n)
      for (int64_t k = 0; k < count; ++k)
        numbers[k * LANES + l] = n < z.images ? rows[n * row + k] : 0.0f;
  }
  void store(const V* vectors, int64_t block, int64_t count, float* rows, int64_t row) const {
    const float* numbers = reinterpret_cast<const float*>(vectors);
    for (int64_t l = 0, n = block * LANES; l < LANES && n < z.images; ++l, ++n)
      for (int64_t k = 0; k < count; ++k) rows[n * row + k] = numbers[k * LANES + l];
  }

  // result = scale * the sum of the parts, and `more` if it is given, of one parent.
  void add_parts(int64_t at, float scale, const V* more, V* result) const {
    for (int64_t k = 0; k < z.dim; ++k) {
      V sum = partial[at + k];
      for (int64_t part = 1; part < parts; ++part) sum += partial[part * part_size + at + k];
      result[k] = more ? more[k] + sum : sum * scale;
    }
  }

  // Each part's sum of u_hat.
  void predict_evenly() {
    each(threads, parts, [=](int64_t part) {
      for (int64_t b = 0; b < blocks; ++b)
        for (int64_t j = 0; j < z.parents; ++j)
          pieces<TILE>(z.dim, [&](auto piece, int64_t k) {
            V sums[piece.value] = {};
            for (int64_t i = first(part); i < first(part + 1); ++i)
              predict<piece.value>(z, u + (i * blocks + b) * z.child_dim, weights(i, j) + k, sums);
            V* to = partial + part * part_size + b * pair + j * z.dim + k;
            for (int n = 0; n < piece.value; ++n) to[n] = sums[n];
          });
    });
  }

  const float* weights(int64_t i, int64_t j) const {
    return arrays.w + (i * z.parents + j) * z.child_dim * z.dim;
  }

  // Each part's sum of c u_hat, from x. With DIFFERENTIATE it stores c, and from ds the gradient of
  // the logits, db = c (dc - sum of c dc over the parents) with dc = u_hat . ds, and sums db u_hat up.
  template <bool DIFFERENTIATE>
  void route(const V* x, const V* ds, V* c, V* db) {
    each(threads, parts, [=](int64_t part) {
      V* sums = partial + part * part_size;
      V *u_hat = sums + size, *logits = u_hat + pair, *dc = logits + z.parents;
      for (int64_t b = 0; b < blocks; ++b, sums += pair) {
        for (int64_t jk = 0; jk < pair; ++jk) sums[jk] = V{};
        for (int64_t i = first(part); i < first(part + 1); ++i) {
          const V* child = u + (i * blocks + b) * z.child_dim;
          for (int64_t j = 0; j < z.parents; ++j) {
            logits[j] = dc[j] = V{};
            pieces<TILE>(z.dim, [&](auto piece, int64_t k) {
              V numbers[piece.value] = {};
              predict<piece.value>(z, child, weights(i, j) + k, numbers);
              const int64_t at = j * z.dim + k;
              V agreement = V{}, gradient = V{};
              for (int n = 0; n < piece.value; ++n) {
                u_hat[at + n] = numbers[n];
                agreement += numbers[n] * x[b * pair + at + n];
                if (DIFFERENTIATE) gradient += numbers[n] * ds[b * pair + at + n];
              }
              logits[j] += agreement;
              dc[j] += gradient;
            });
          }
          softmax(z, logits);
          if (DIFFERENTIATE) {
            const int64_t at = (i * blocks + b) * z.parents;
            V mean = V{};
            for (int64_t j = 0; j < z.parents; ++j) mean += logits[j] * dc[j];
            for (int64_t j = 0; j < z.parents; ++j) {
              c[at + j] = logits[j];
              logits[j] *= dc[j] - mean;
              if (z.all) db[at + j] = logits[j];
            }
            if (!z.all) continue;
          }
          for (int64_t j = 0; j < z.parents; ++j)
            for (int64_t jk = j * z.dim; jk < (j + 1) * z.dim; ++jk)
              sums[jk] += logits[j] * u_hat[jk];
        }
      }
    });
  }

  // du and dw of each child. `ds` is that of the first iteration, or null.
  void each_gradient(const V* ds, int64_t terms, const V* c, const V* vectors) {
    of_each_child([=](int64_t i, V* space) {
      V *of_u = space, *of_u_hat = of_u + blocks * z.child_dim;
      for (int64_t d = 0; d < blocks * z.child_dim; ++d) of_u[d] = V{};
      for (int64_t j = 0; j < z.parents; ++j) {
        for (int64_t b = 0; b < blocks; ++b)
          pieces<TILE>(z.dim, [&](auto piece, int64_t k) {
            const int64_t at = b * pair + j * z.dim + k;
            V numbers[piece.value];
            for (int n = 0; n < piece.value; ++n) numbers[n] = ds ? even * ds[at + n] : V{};
            for (int64_t term = 0; term < terms; ++term) {
              const V coefficient = c[term * coupled + (i * blocks + b) * z.parents + j];
              const V* vector = vectors + term * size + at;
              for (int n = 0; n < piece.value; ++n) numbers[n] += coefficient * vector[n];
            }
            for (int n = 0; n < piece.value; ++n) of_u_hat[b * z.dim + k + n] = numbers[n];
            const float* from = weights(i, j) + k;
            for (int64_t d = 0; d < z.child_dim; ++d, from += z.dim) {
              V sum = of_u[b * z.child_dim + d];
              for (int n = 0; n < piece.value; ++n) sum += numbers[n] * from[n];
              of_u[b * z.child_dim + d] = sum;
            }
          });
        outer(u + i * blocks * z.child_dim, of_u_hat,
              arrays.dw + (i * z.parents + j) * z.child_dim * z.dim);
      }
      for (int64_t b = 0; b < blocks; ++b)
        store(of_u + b * z.child_dim, b, z.child_dim, arrays.du + i * z.child_dim,
              z.children * z.child_dim);
    });
  }

  // The gradient of one W_ij [child_dim, dim]: a sum over the images. Vectors behind the last number
  // are those of the last one; their sums are left out.
  void outer(const V* child, const V* of_u_hat, float* of_w) const {
    constexpr int ROWS = LANES / 2;
    for (int64_t d = 0; d < z.child_dim; d += ROWS)
      for (int64_t k = 0; k < z.dim; k += 2) {
        const int64_t second = k + 1 < z.dim ? k + 1 : k;
        V sums[LANES] = {};
        for (int64_t b = 0; b < blocks; ++b)
          for (int n = 0; n < ROWS; ++n) {
            const V x = child[b * z.child_dim + (d + n < z.child_dim ? d + n : z.child_dim - 1)];
            sums[2 * n] += x * of_u_hat[b * z.dim + k];
            sums[2 * n + 1] += x * of_u_hat[b * z.dim + second];
          }
        float* totals = reinterpret_cast<float*>(sums);  // of the lanes, in the first one
        for (int half = LANES / 2; half > 0; half /= 2)
          for (int n = 0; n < LANES; ++n)
            for (int l = 0; l < half; ++l) totals[n * LANES + l] += totals[n * LANES + l + half];
        for (int n = 0; n < ROWS && d + n < z.child_dim; ++n)
          for (int64_t m = k; m <= second; ++m)
            of_w[(d + n) * z.dim + m] = totals[(2 * n + m - k) * LANES];
      }
  }

  const Sizes z;
  const Threads threads;
  const Arrays arrays;
  const int64_t blocks, pair, size, coupled, parts, part_size;
  const float even;
  V* left;
  V *const u, *const partial, *const s;  // partial is [parts, part_size]
};

}  // namespace

extern const Kernel INSTRUCTIONS;
const Kernel INSTRUCTIONS = {
    LANES,
    [](const Sizes& z, const Threads& t, const Arrays& a) { Routing(z, t, a).forward(); },
    [](const Sizes& z, const Threads& t, const Arrays& a) { Routing(z, t, a).backward(); }};

}  // namespace capsnet

#else

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/util/work_sharder.h"

namespace capsnet {

extern const Kernel plain, avx2, avx512;

namespace {

using namespace tensorflow;
using Workers = DeviceBase::CpuWorkerThreads;

// The kernel of that name, or for an empty name the fastest one that this machine has; or null.
const Kernel* find_kernel(const std::string& name) {
#ifdef __x86_64__
  const bool has_avx512 = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  if (has_avx512 && __builtin_cpu_supports("avx512vl") && (name.empty() || name == "avx512"))
    return &avx512;
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (has_avx2 && (name.empty() || name == "avx2")) return &avx2;
#endif
  return name.empty() || name == "plain" ? &plain : nullptr;
}

void run(void* pool, int64_t count, void (*call)(void*, int64_t), void* body) {
  constexpr int64_t COST = 1000000;  // in cycles; with less, some threads might get nothing to do
  const Workers* workers = static_cast<const Workers*>(pool);
  Shard(workers->num_threads, workers->workers, count, COST, [=](int64_t i, int64_t end) {
    for (; i < end; ++i) call(body, i);
  });
}

template <bool GRADIENT>
class RoutingOp : public OpKernel {
 public:
  explicit RoutingOp(OpKernelConstruction* context) : OpKernel(context) {
    std::string instructions, gradient;
    bool none;
    OP_REQUIRES_OK(context, context->GetAttr("iterations", &sizes_.iterations));
    OP_REQUIRES_OK(context, context->GetAttr("gradient", &gradient));
    OP_REQUIRES_OK(context, context->GetAttr("none_of_the_above", &none));
    OP_REQUIRES_OK(context, context->GetAttr("instructions", &instructions));
    sizes_.none_of_the_above = none;
    sizes_.all = gradient == "all" || sizes_.iterations == 1;
    kernel_ = find_kernel(instructions);
    OP_REQUIRES(context, kernel_, errors::InvalidArgument("This machine has no ", instructions, "."));
  }

  void Compute(OpKernelContext* context) override {
    const TensorShape &u = context->input(0).shape(), &w = context->input(1).shape();
    OP_REQUIRES(context,
                u.dims() == 3 && w.dims() == 4 && u.dim_size(1) == w.dim_size(0) &&
                    u.dim_size(2) == w.dim_size(2) && w.num_elements() > 0,
                errors::InvalidArgument("Capsules of shape ", u.DebugString(),
                                " cannot be routed by weights of shape ", w.DebugString()));
    Sizes z = sizes_;
    z.images = u.dim_size(0), z.children = w.dim_size(0), z.parents = w.dim_size(1);
    z.child_dim = w.dim_size(2), z.dim = w.dim_size(3);
    const Space room(z, kernel_->lanes);
    const TensorShape v({z.images, z.parents, z.dim}), sums({room.sums});
    const TensorShape space({GRADIENT ? room.backward : room.forward});
    OP_REQUIRES(context,
                !GRADIENT || (context->input(2).shape() == sums && context->input(3).shape() == v),
                errors::InvalidArgument("These are no sums and gradients of ", v.DebugString()));
    Tensor *first, *second, temporary;
    OP_REQUIRES_OK(context, context->allocate_output(0, GRADIENT ? u : v, &first));
    OP_REQUIRES_OK(context, context->allocate_output(1, GRADIENT ? w : sums, &second));
    OP_REQUIRES_OK(context, context->allocate_temp(DT_FLOAT, space, &temporary));
    auto input = [=](int i) { return const_cast<float*>(context->input(i).flat<float>().data()); };
    float *a = first->flat<float>().data(), *b = second->flat<float>().data();
    float* free = temporary.flat<float>().data();
    const Threads threads{run, const_cast<Workers*>(context->device()->tensorflow_cpu_worker_threads())};
    if constexpr (GRADIENT)
      kernel_->backward(z, threads, {input(0), input(1), input(3), nullptr, a, b, input(2), free});
    else
      kernel_->forward(z, threads, {input(0), input(1), nullptr, a, nullptr, nullptr, b, free});
  }

 private:
  Sizes sizes_;
  const Kernel* kernel_;
};

#define OPTIONS                                                               \
  .Attr("iterations: int >= 1").Attr("gradient: {'all', 'last'}")             \
  .Attr("none_of_the_above: bool").Attr("instructions: string = ''")

REGISTER_OP("CapsnetRouting")
    .Input("u: float").Input("w: float").Output("v: float").Output("sums: float") OPTIONS
    .SetShapeFn([](shape_inference::InferenceContext* c) {
      shape_inference::ShapeHandle u, w;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 3, &u));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 4, &w));
      c->set_output(0, c->MakeShape({c->Dim(u, 0), c->Dim(w, 1), c->Dim(w, 3)}));
      c->set_output(1, c->UnknownShapeOfRank(1));
      return Status();
    });
REGISTER_OP("CapsnetRoutingGrad")
    .Input("u: float").Input("w: float").Input("sums: float").Input("dv: float")
    .Output("du: float").Output("dw: float") OPTIONS
    .SetShapeFn([](shape_inference::InferenceContext* c) {
      c->set_output(0, c->input(0)), c->set_output(1, c->input(1));
      return Status();
    });
REGISTER_KERNEL_BUILDER(Name("CapsnetRouting").Device(DEVICE_CPU), RoutingOp<false>);
REGISTER_KERNEL_BUILDER(Name("CapsnetRoutingGrad").Device(DEVICE_CPU), RoutingOp<true>);

}  // namespace
}  // namespace capsnet

#endif
