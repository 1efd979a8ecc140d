// Routing by agreement (Procedure 1 of Sabour, Frosst, Hinton 2017) and its exact gradient for a CPU.
//
// A vector holds the same number of LANES images, a block. So only the gradient of W needs sums inside
// of a vector. The predictions u_hat = W u, parents * dim vectors for a child of a block, stay in the
// first cache and are made again in each pass over the children. Children are summed up in PARTS and in
// the same order, so results do not depend on the number of threads.
#include "native.h"
namespace capsnet::routing {
// none_of_the_above: one more logit, always 0, is in the softmax. all: the gradient flows through all
// iterations, not only the last one.
struct Sizes { int64_t images, children, parents, child_dim, dim, iterations; bool none_of_the_above, all; };
// v [images, parents, dim] is made from u [images, children, child_dim], w [children, parents, child_dim,
// dim] and the bias [parents, dim] of s. `sums`, s and x of all iterations, is what the forward pass leaves
// to the backward pass.
struct Arrays { float *u, *w, *bias, *dv, *v, *du, *dw, *dbias, *sums, *space; };
constexpr int64_t CHILDREN = 4;  // that take turns in each_gradient
// How many numbers `sums` has, and `space`: one part of it and all of it.
struct Space {
  int64_t sums, part, forward, backward;
  Space(const Sizes& z, int64_t lanes) {
    const int64_t blocks = (z.images + lanes - 1) / lanes, pair = z.parents * z.dim;
    // Sums, and the predictions and coefficients of a child; or the gradients of each_gradient.
    const int64_t routed = blocks * pair + pair + 2 * z.parents;
    const int64_t child = CHILDREN * blocks * (z.child_dim + z.dim);
    part = lanes * (routed > child ? routed : child);
    sums = lanes * 2 * z.iterations * blocks * pair;
    forward = lanes * blocks * z.children * z.child_dim + PARTS * part;
    backward = forward + lanes * blocks * ((z.iterations + 1) * pair +
                                           2 * (z.iterations - 1) * z.children * z.parents);
  }
};
struct Kernel {
  int64_t lanes;
  void (*forward)(const Sizes&, const Threads&, const Arrays&);   // makes v and sums
  void (*backward)(const Sizes&, const Threads&, const Arrays&);  // makes du, dw and dbias
};
extern const Kernel plain, avx2, avx512;

#ifdef INSTRUCTIONS
namespace {
constexpr int TILE = LANES < 16 ? 8 : 16;  // vectors that the registers hold as sums
// e^x for x <= 0, as 2^r p with a whole number r. The polynomial p is 2^f for f from -1/2 to 1/2, to
// two units in the last place. NaN stays NaN.
inline V exponential(V x) {
  const V t = (x < -87.0f ? V{} - 87.0f : x) * 1.44269504f;
  const V shifted = t + 12582912.0f;  // 1.5 * 2^23: the sum has r in its low bits
  const V f = t - (shifted - 12582912.0f);
  V p = ((f * 1.54035304e-4f + 1.33335581e-3f) * f + 9.61812911e-3f) * f + 5.55041087e-2f;
  p = ((p * f + 2.40226507e-1f) * f + 6.93147182e-1f) * f + 1.0f;
  return x == x ? (V)((U)p + ((U)shifted << 23)) : x;
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
  const V longest = (1 - 8 * 1.1920929e-7f) / norm, value = longest < scale ? longest : scale;
  const V turn = scale * (1.0f - 2.0f * norm * scale) * (along / norm) / norm;
  for (int64_t k = 0; k < dim; ++k)
    result[k] = dv ? scale * dv[k] + turn * clipped(s[k]) : value * clipped(s[k]);
}

// Sizes count vectors from here on. u is [children, blocks, child_dim]; s, v, x (the sum of the v of
// all earlier iterations) and their gradients are [blocks, parents, dim]; the coupling coefficients c
// and the gradients of the logits, db, are [children, blocks, parents].
class Routing {
 public:
  Routing(const Sizes& sizes, const Threads& threads, const Arrays& arrays)
      : z(sizes), threads(threads), arrays(arrays), blocks((z.images + LANES - 1) / LANES),
        pair(z.parents * z.dim), size(blocks * pair), coupled(z.children * blocks * z.parents),
        even(1.0f / (z.parents + z.none_of_the_above)), parts(z.children < PARTS ? z.children : PARTS),
        part_size(Space(z, LANES).part / LANES),
        left(reinterpret_cast<V*>(arrays.space)), u(take(z.children * blocks * z.child_dim)),
        partial(take(parts * part_size)), s(reinterpret_cast<V*>(arrays.sums)), x(s + z.iterations * size) {
    each(threads, parts, [=](int64_t part) {
      for (int64_t n = first(part) * blocks; n < first(part + 1) * blocks; ++n)
        transpose<false>(this->arrays.u + n / blocks * z.child_dim, z.children * z.child_dim,
                         n % blocks, z.child_dim, u + n * z.child_dim);
    });
  }
  void forward() {
    for (int64_t at = 0; at < size; ++at) x[at] = V{};
    for (int64_t t = 0; t < z.iterations; ++t) {
      if (t) route<false>(x + t * size, nullptr, nullptr, nullptr);
      else route_evenly();
      each_parent([=](int64_t at, int64_t b, int64_t j) {
        V* v = partial + at;  // in the place of the first part's sums
        add_parts(at, nullptr, s + t * size + at);
        for (int64_t k = 0; k < z.dim; ++k) s[t * size + at + k] += arrays.bias[j * z.dim + k];
        squash(z.dim, s + t * size + at, nullptr, v);
        if (t == z.iterations - 1)
          transpose<true>(arrays.v + j * z.dim, pair, b, z.dim, v);
        else
          for (int64_t k = 0; k < z.dim; ++k) x[(t + 1) * size + at + k] = x[t * size + at + k] + v[k];
      });
    }
  }
  // From the last iteration to the first one: ds from the gradient of v, then c, db and from them the
  // gradient of the v before. u and W come last, for all iterations at once.
  void backward() {
    V *dv = take(size), *ds = take(z.iterations * size);
    V *c = take((z.iterations - 1) * coupled), *db = take((z.iterations - 1) * coupled);
    for (int64_t t = z.iterations - 1; t >= 0; --t) {
      const int64_t later = z.iterations - 1 - t;
      each_parent([=](int64_t at, int64_t b, int64_t j) {
        if (later)
          add_parts(at, later > 1 ? dv + at : nullptr, dv + at);  // x has every v before it
        else
          transpose<false>(arrays.dv + j * z.dim, pair, b, z.dim, dv + at);
        squash(z.dim, s + t * size + at, dv + at, ds + t * size + at);
      });
      if (t)
        route<true>(x + t * size, ds + t * size, c + (t - 1) * coupled, db + (t - 1) * coupled);
      if (!z.all) break;
    }
    each_gradient(ds, c, db);
    for (int64_t jk = 0; jk < pair; ++jk) {
      V sum = V{};
      for (int64_t at = (z.all ? 0 : z.iterations - 1) * size; at < z.iterations * size; at += pair)
        sum += ds[at + jk];
      arrays.dbias[jk] = 0;
      for (int l = 0; l < LANES; ++l) arrays.dbias[jk] += sum[l];
    }
  }
 private:
  V* take(int64_t count) { return (left += count) - count; }  // the next vectors of the space
  int64_t first(int64_t part) const { return z.children * part / parts; }  // its first child
  // Calls body(the index of its first vector, block, parent).
  template <class Body>
  void each_parent(Body body) {
    each(threads, blocks * z.parents,
         [=](int64_t n) { body(n * z.dim, n / z.parents, n % z.parents); });
  }
  // Loads numbers of a block's images, each in a row of its own, as vectors, 0 where there is no
  // image; or stores them.
  template <bool STORE>
  void transpose(float* rows, int64_t row, int64_t block, int64_t count, V* vectors) const {
    float* numbers = reinterpret_cast<float*>(vectors);
    for (int64_t l = 0, n = block * LANES; l < LANES; ++l, ++n)
      for (int64_t k = 0; k < count && (!STORE || n < z.images); ++k)
        if (STORE) rows[n * row + k] = numbers[k * LANES + l];
        else numbers[k * LANES + l] = n < z.images ? rows[n * row + k] : 0.0f;
  }
  // result = the sum of the parts, and `more` if it is given, of one parent.
  void add_parts(int64_t at, const V* more, V* result) const {
    for (int64_t k = 0; k < z.dim; ++k) {
      V sum = more ? more[k] : V{};
      for (int64_t part = 0; part < parts; ++part) sum += partial[part * part_size + at + k];
      result[k] = sum;
    }
  }
  const float* weights(int64_t i, int64_t j) const {
    return arrays.w + (i * z.parents + j) * z.child_dim * z.dim;
  }
  // Adds numbers of the prediction W u of a child's block, of which there are `piece`.
  template <class Piece>
  inline void predict(const V* child, const float* w, Piece piece, V* numbers) const {
    for (int64_t d = 0; d < z.child_dim; ++d, w += z.dim)
      unrolled(piece, [&](int n) { numbers[n] += child[d] * w[n]; });
  }
  // Each part's sum of c u_hat in the first iteration, where all c are equal.
  void route_evenly() {
    each(threads, parts, [=](int64_t part) {
      for (int64_t j = 0; j < z.parents; ++j)
        for (int64_t b = 0; b < blocks; ++b)
          pieces<TILE>(z.dim, [&](auto piece, int64_t k) {
            V numbers[piece.value], *sums = partial + part * part_size + b * pair + j * z.dim + k;
            unrolled(piece, [&](int n) { numbers[n] = V{}; });
            for (int64_t i = first(part); i < first(part + 1); ++i)
              predict(u + (i * blocks + b) * z.child_dim, weights(i, j) + k, piece, numbers);
            unrolled(piece, [&](int n) { sums[n] = even * numbers[n]; });
          });
    });
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
          for (int64_t j = 0; j < z.parents; ++j) {
            logits[j] = dc[j] = V{};
            pieces<TILE>(z.dim, [&](auto piece, int64_t k) {
              const int64_t at = j * z.dim + k;
              const V *x_b = x + b * pair + at, *ds_b = ds + b * pair + at;
              V numbers[piece.value], agreement[4] = {}, gradient[4] = {};  // sums that do not wait
              unrolled(piece, [&](int n) { numbers[n] = V{}; });
              predict(u + (i * blocks + b) * z.child_dim, weights(i, j) + k, piece, numbers);
              unrolled(piece, [&](int n) {
                u_hat[at + n] = numbers[n];
                agreement[n % 4] += numbers[n] * x_b[n];
                if (DIFFERENTIATE) gradient[n % 4] += numbers[n] * ds_b[n];
              });
              logits[j] += (agreement[0] + agreement[1]) + (agreement[2] + agreement[3]);
              dc[j] += (gradient[0] + gradient[1]) + (gradient[2] + gradient[3]);
            });
          }
          softmax(z, logits);
          V mean = V{};
          for (int64_t j = 0; DIFFERENTIATE && j < z.parents; ++j) mean += logits[j] * dc[j];
          for (int64_t j = 0, at = (i * blocks + b) * z.parents; j < z.parents; ++j) {
            V factor = logits[j];
            if (DIFFERENTIATE) {
              c[at + j] = factor;
              db[at + j] = factor *= dc[j] - mean;
            }
            pieces<TILE>(z.dim, [&](auto piece, int64_t k) {
              V *to = sums + j * z.dim + k, *from = u_hat + j * z.dim + k;
              unrolled(piece, [&](int n) { to[n] += factor * from[n]; });
            });
          }
        }
      }
    });
  }
  // du and dw, from the gradient of u_hat: c ds + db x of all iterations; in the first one all c are
  // equal and without a gradient. CHILDREN take turns, so that ds and x of a block and parent come from
  // the first cache. Their c and db lie far apart, and are fetched while the children before are at work.
  void each_gradient(const V* ds, const V* c, const V* db) {
    each(threads, parts, [=](int64_t part) {
      V *of_u = partial + part * part_size, *of_u_hat = of_u + CHILDREN * blocks * z.child_dim;
      for (int64_t i = first(part), last = first(part + 1); i < last; i += CHILDREN) {
        const int64_t end = i + CHILDREN < last ? i + CHILDREN : last;
        for (int64_t at = 0; at < CHILDREN * blocks * z.child_dim; ++at) of_u[at] = V{};
        for (int64_t j = 0; j < z.parents; ++j) {
          for (int64_t b = 0; b < blocks; ++b) for (int64_t child = 0; child < end - i; ++child) {
            const int64_t of_c = ((i + child) * blocks + b) * z.parents + j, at = child * blocks + b;
            for (int64_t t = z.all ? 1 : z.iterations - 1; t < z.iterations; ++t) {
              const int64_t later = (t - 1) * coupled + of_c + CHILDREN * blocks * z.parents;
              __builtin_prefetch(c + later);
              __builtin_prefetch(db + later);
            }
            gradient(weights(i + child, j), b * pair + j * z.dim, ds, c + of_c, db + of_c,
                     of_u_hat + at * z.dim, of_u + at * z.child_dim);
          }
          for (int64_t child = 0; child < end - i; ++child)
            outer(u + (i + child) * blocks * z.child_dim, of_u_hat + child * blocks * z.dim,
                  arrays.dw + (weights(i + child, j) - arrays.w));
        }
        for (int64_t child = i, at = 0; child < end; ++child)
          for (int64_t b = 0; b < blocks; ++b, at += z.child_dim)
            transpose<true>(arrays.du + child * z.child_dim, z.children * z.child_dim, b, z.child_dim,
                            of_u + at);
      }
    });
  }
  // The same of one child, block and parent, whose first number is at `at` in ds and x.
  inline void gradient(const float* weights, int64_t at, const V* ds, const V* c, const V* db,
                       V* of_u_hat, V* of_u) const {
    pieces<TILE>(z.dim, [&](auto piece, int64_t k) {
      V numbers[piece.value];
      unrolled(piece, [&](int n) { numbers[n] = z.all ? even * ds[at + k + n] : V{}; });
      for (int64_t t = z.all ? 1 : z.iterations - 1; t < z.iterations; ++t) {
        const V c_t = c[(t - 1) * coupled], db_t = db[(t - 1) * coupled];
        const V *ds_t = ds + t * size + at + k, *x_t = x + t * size + at + k;
        unrolled(piece, [&](int n) { numbers[n] += c_t * ds_t[n]; });
        if (z.all) unrolled(piece, [&](int n) { numbers[n] += db_t * x_t[n]; });
      }
      unrolled(piece, [&](int n) { of_u_hat[k + n] = numbers[n]; });
      pieces<8>(z.child_dim, [&](auto rows, int64_t d) {
        const float* w = weights + d * z.dim + k;
        V sums[rows.value];
        unrolled(rows, [&](int m) { sums[m] = of_u[d + m]; });
        const float* row[rows.value];
        unrolled(rows, [&](int m) { row[m] = w + m * z.dim; });
        unrolled(piece, [&](int n) { unrolled(rows, [&](int m) { sums[m] += numbers[n] * row[m][n]; }); });
        unrolled(rows, [&](int m) { of_u[d + m] = sums[m]; });
      });
    });
  }
  // The gradient of one W_ij [child_dim, dim]: a sum over the images.
  void outer(const V* child, const V* of_u_hat, float* of_w) const {
    pieces<LANES / 2>(z.child_dim, [&](auto rows, int64_t d) {
      for (int64_t k = 0; k < z.dim; k += 2) {
        const int64_t second = k + 1 < z.dim ? k + 1 : k;
        V sums[LANES];
        unrolled(Size<LANES>(), [&](int n) { sums[n] = V{}; });
        for (int64_t b = 0; b < blocks; ++b) {
          const V *x = child + b * z.child_dim + d, y = of_u_hat[b * z.dim + k];
          const V y2 = of_u_hat[b * z.dim + second];
          unrolled(rows, [&](int n) {
            sums[2 * n] += x[n] * y;
            sums[2 * n + 1] += x[n] * y2;
          });
        }
        const V all = totals(sums);
        for (int n = 0; n < rows.value; ++n)
          for (int64_t m = k; m <= second; ++m) of_w[(d + n) * z.dim + m] = all[2 * n + m - k];
      }
    });
  }

  const Sizes z;
  const Threads threads;
  const Arrays arrays;
  const int64_t blocks, pair, size, coupled;
  const float even;  // c in the first iteration
  const int64_t parts, part_size;
  V* left;
  V *const u, *const partial, *const s, *const x;  // partial is [parts, part_size]
};
}  // namespace
const Kernel INSTRUCTIONS = {
    LANES, [](const Sizes& z, const Threads& t, const Arrays& a) { Routing(z, t, a).forward(); },
    [](const Sizes& z, const Threads& t, const Arrays& a) { Routing(z, t, a).backward(); }};

#else
template <bool GRADIENT>
struct RoutingOp : OpKernel {
  explicit RoutingOp(OpKernelConstruction* context) : OpKernel(context) {
    std::string gradient;
    OP_REQUIRES_OK(context, context->GetAttr("iterations", &sizes.iterations));
    OP_REQUIRES_OK(context, context->GetAttr("gradient", &gradient));
    OP_REQUIRES_OK(context, context->GetAttr("none_of_the_above", &sizes.none_of_the_above));
    sizes.all = gradient == "all" || sizes.iterations == 1;
    choose(context, &kernel, KERNELS);
  }
  void Compute(OpKernelContext* context) override {
    const TensorShape &u = context->input(0).shape(), &w = context->input(1).shape();
    bool fits = u.dims() == 3 && w.dims() == 4 && w.num_elements() > 0;
    fits = fits && u.dim_size(1) == w.dim_size(0) && u.dim_size(2) == w.dim_size(2);
    OP_REQUIRES(context, fits,
                errors::InvalidArgument("Capsules of shape ", u.DebugString(), " cannot be routed by ",
                                        "weights of shape ", w.DebugString(), "."));
    const TensorShape bias({w.dim_size(1), w.dim_size(3)});
    OP_REQUIRES(context, GRADIENT || context->input(2).shape() == bias,
                errors::InvalidArgument("The bias must have the shape ", bias.DebugString(), "."));
    Sizes z = sizes;
    z.images = u.dim_size(0), z.children = w.dim_size(0), z.parents = w.dim_size(1);
    z.child_dim = w.dim_size(2), z.dim = w.dim_size(3);
    const Space room(z, kernel->lanes);
    const TensorShape v({z.images, z.parents, z.dim}), sums({room.sums});
    fits = !GRADIENT || (context->input(2).shape() == sums && context->input(3).shape() == v);
    OP_REQUIRES(context, fits, errors::InvalidArgument("The gradient of v has another shape."));
    const TensorShape shapes[] = {GRADIENT ? u : v, GRADIENT ? w : sums,
                                  TensorShape({GRADIENT ? room.backward : room.forward})};
    Tensor *first, *second, *third = nullptr, space;
    OP_REQUIRES_OK(context, context->allocate_output(0, shapes[0], &first));
    OP_REQUIRES_OK(context, context->allocate_output(1, shapes[1], &second));
    if (GRADIENT) OP_REQUIRES_OK(context, context->allocate_output(2, bias, &third));
    OP_REQUIRES_OK(context, context->allocate_temp(DT_FLOAT, shapes[2], &space));
    auto input = [=](int i) { return const_cast<float*>(context->input(i).flat<float>().data()); };
    auto output = [](Tensor& tensor) { return tensor.flat<float>().data(); };
    float *a = output(*first), *b = output(*second), *free = output(space);
    const Threads threads = threads_of(context);
    if constexpr (GRADIENT)
      kernel->backward(z, threads, {input(0), input(1), nullptr, input(3), nullptr, a, b,
                                    output(*third), input(2), free});
    else
      kernel->forward(z, threads, {input(0), input(1), input(2), nullptr, a, nullptr, nullptr,
                                   nullptr, b, free});
  }
  Sizes sizes;
  const Kernel* kernel = nullptr;
};
template <bool GRADIENT>
absl::Status shapes(shape_inference::InferenceContext* c) {
  shape_inference::ShapeHandle u, w;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 3, &u));
  TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 4, &w));
  c->set_output(0, GRADIENT ? u : c->MakeShape({c->Dim(u, 0), c->Dim(w, 1), c->Dim(w, 3)}));
  c->set_output(1, GRADIENT ? w : c->UnknownShapeOfRank(1));
  if (GRADIENT) c->set_output(2, c->MakeShape({c->Dim(w, 1), c->Dim(w, 3)}));
  return absl::OkStatus();
}
#define OPTIONS                                                   \
  .Attr("iterations: int >= 1").Attr("gradient: {'all', 'last'}") \
  .Attr("none_of_the_above: bool").Attr("instructions: string = ''")
REGISTER_OP("CapsnetRouting")
    .Input("u: float").Input("w: float").Input("bias: float").Output("v: float").Output("sums: float")
    OPTIONS.SetShapeFn(shapes<false>);
REGISTER_OP("CapsnetRoutingGrad")
    .Input("u: float").Input("w: float").Input("sums: float").Input("dv: float")
    .Output("du: float").Output("dw: float").Output("dbias: float") OPTIONS.SetShapeFn(shapes<true>);
REGISTER_KERNEL_BUILDER(Name("CapsnetRouting").Device(DEVICE_CPU), RoutingOp<false>);
REGISTER_KERNEL_BUILDER(Name("CapsnetRoutingGrad").Device(DEVICE_CPU), RoutingOp<true>);
#endif
}  // namespace capsnet::routing
