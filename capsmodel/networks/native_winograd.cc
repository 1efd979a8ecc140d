// The transforms of winograd.py for a CPU: rows @ x @ columns^T for each number of the last axis.
//
// As two matrix products, the larger of input and output would be written and read once more. Here a
// block of the last axis stays in the second cache between the two. It is as long as a page of memory:
// the a * b pieces of a shorter one lie as far apart, and each page would be looked up several times.
// Numbers of the last axis never meet, so results do not depend on the number of threads.
#include "native.h"
namespace capsnet::winograd {
constexpr int64_t BLOCK = 1024;
// y [r, s, c] is made from rows [r, a], columns [s, b] and x [a, b, c]. `space` is [PARTS, a, s, BLOCK].
// With y_phases > 1, y is stored as [r / y_phases, s / y_phases, y_phases, y_phases, c]: row (i, p) and
// column (j, q), i and j the phases, are at [p, q, i, j]. So is x with x_phases.
struct Transform {
  int64_t r, a, s, b, c, x_phases, y_phases;
  const float *rows, *columns, *x;
  float *y, *space;
};
using Kernel = void(const Transform&, const Threads&);
Kernel plain, avx2, avx512;

#ifdef INSTRUCTIONS
constexpr int TILE = 10;  // sums in registers; the matrices of the paper's network have up to 10 rows
// Where the next terms are, and those of the next group.
struct Terms { int64_t groups, count, step, group_step; };
// to [count] = matrix [count, terms] times from [terms]; each of them is `width` neighbouring numbers.
static inline void multiply(const float* matrix, int64_t count, const float* from, const Terms& terms,
                            float* to, int64_t to_step, int64_t width) {
  const int64_t all = terms.groups * terms.count;
  auto vector = [=](auto is_whole, int64_t first) {
    pieces<TILE, true>(count, [=](auto piece, int64_t n) {
      V x = {}, sums[piece.value] = {};
      const float* factor = matrix + n * all;
      for (int64_t group = 0; group < terms.groups; ++group)
        for (int64_t k = 0; k < terms.count; ++k, ++factor) {
          const float* numbers = from + group * terms.group_step + k * terms.step + first;
          if (is_whole.value) x = *reinterpret_cast<const V*>(numbers);
          else for (int64_t l = 0; l < width - first; ++l) x[l] = numbers[l];
          for (int i = 0; i < piece.value; ++i) sums[i] += factor[i * all] * x;
        }
      for (int i = 0; i < piece.value; ++i) {
        float* numbers = to + (n + i) * to_step + first;
        if (is_whole.value) *reinterpret_cast<V*>(numbers) = sums[i];
        else for (int64_t l = 0; l < width - first; ++l) numbers[l] = sums[i][l];
      }
    });
  };
  for (int64_t first = 0; first < width; first += LANES)
    first + LANES <= width ? vector(Size<1>(), first) : vector(Size<0>(), first);
}
void INSTRUCTIONS(const Transform& z, const Threads& threads) {
  const int64_t blocks = (z.c + BLOCK - 1) / BLOCK, in = z.x_phases, out = z.y_phases;
  const int64_t a = z.a / in, b = z.b / in, r = z.r / out, s = z.s / out;
  each(threads, PARTS, [=](int64_t part) {
    float* between = z.space + part * z.a * z.s * BLOCK;  // [a, s, BLOCK]
    for (int64_t block = blocks * part / PARTS; block < blocks * (part + 1) / PARTS; ++block) {
      const int64_t start = block * BLOCK, width = z.c - start < BLOCK ? z.c - start : BLOCK;
      for (int64_t i = 0; i < z.a; ++i)
        multiply(z.columns, z.s, z.x + (i % a * b * in + i / a) * in * z.c + start,
                 {in, b, in * in * z.c, z.c}, between + i * z.s * BLOCK, BLOCK, width);
      for (int64_t j = 0; j < z.s; ++j)
        for (int64_t i = 0; i < out; ++i)
          multiply(z.rows + i * r * z.a, r, between + j * BLOCK, {1, z.a, z.s * BLOCK, 0},
                   z.y + ((j % s * out + i) * out + j / s) * z.c + start, s * out * out * z.c, width);
    }
  });
}

#else
struct TransformOp : OpKernel {
  explicit TransformOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("x_phases", &in));
    OP_REQUIRES_OK(context, context->GetAttr("y_phases", &out));
    choose(context, &kernel, KERNELS);
  }
  void Compute(OpKernelContext* context) override {
    const Tensor &rows = context->input(0), &columns = context->input(1), &x = context->input(2);
    bool fits = rows.dims() == 2 && columns.dims() == 2 && x.dims() == 3;
    fits = fits && rows.dim_size(1) == in * x.dim_size(0) && columns.dim_size(1) == in * x.dim_size(1);
    fits = fits && rows.dim_size(0) % out == 0 && columns.dim_size(0) % out == 0;
    fits = fits && x.dim_size(2) % (in * in) == 0;
    OP_REQUIRES(context, fits,
                errors::InvalidArgument("Matrices of shapes ", rows.shape().DebugString(), " and ",
                                        columns.shape().DebugString(), " cannot transform ",
                                        x.shape().DebugString(), "."));
    Transform z{rows.dim_size(0), rows.dim_size(1), columns.dim_size(0), columns.dim_size(1),
                x.dim_size(2) / (in * in), in, out};
    Tensor *y, space;
    const TensorShape shape({z.r / out, z.s / out, out * out * z.c});
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &y));
    OP_REQUIRES_OK(context, context->allocate_temp(DT_FLOAT, TensorShape({PARTS, z.a, z.s, BLOCK}), &space));
    z.rows = rows.flat<float>().data(), z.columns = columns.flat<float>().data();
    z.x = x.flat<float>().data(), z.y = y->flat<float>().data(), z.space = space.flat<float>().data();
    kernel(z, threads_of(context));
  }
  Kernel* kernel = nullptr;
  int64_t in, out;
};
REGISTER_OP("CapsnetTransform")
    .Input("rows: float").Input("columns: float").Input("x: float").Output("y: float")
    .Attr("x_phases: int >= 1 = 1").Attr("y_phases: int >= 1 = 1").Attr("instructions: string = ''")
    .SetShapeFn([](shape_inference::InferenceContext* c) {
      shape_inference::ShapeHandle rows, columns, x;
      shape_inference::DimensionHandle r, s, last;
      int64_t in, out;
      TF_RETURN_IF_ERROR(c->GetAttr("x_phases", &in));
      TF_RETURN_IF_ERROR(c->GetAttr("y_phases", &out));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 2, &rows));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 2, &columns));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(2), 3, &x));
      TF_RETURN_IF_ERROR(c->Divide(c->Dim(rows, 0), out, true, &r));
      TF_RETURN_IF_ERROR(c->Divide(c->Dim(columns, 0), out, true, &s));
      TF_RETURN_IF_ERROR(c->Divide(c->Dim(x, 2), in * in, true, &last));
      TF_RETURN_IF_ERROR(c->Multiply(last, out * out, &last));
      c->set_output(0, c->MakeShape({r, s, last}));
      return absl::OkStatus();
    });
REGISTER_KERNEL_BUILDER(Name("CapsnetTransform").Device(DEVICE_CPU), TransformOp);
#endif
}  // namespace capsnet::winograd
