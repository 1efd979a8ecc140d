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
struct Transform { int64_t r, a, s, b, c; const float *rows, *columns, *x; float *y, *space; };
using Kernel = void(const Transform&, const Threads&);
Kernel plain, avx2, avx512;

#ifdef INSTRUCTIONS
constexpr int TILE = 10;  // sums in registers; the matrices of the paper's network have up to 10 rows
// to [count] = matrix [count, terms] times from [terms]; each of them is `width` neighbouring numbers.
static inline void multiply(const float* matrix, int64_t count, int64_t terms, const float* from,
                            int64_t from_step, float* to, int64_t to_step, int64_t width) {
  auto vector = [=](auto is_whole, int64_t first) {
    pieces<TILE>(count, [=](auto piece, int64_t n) {
      V x = {}, sums[piece.value] = {};
      for (int64_t k = 0; k < terms; ++k) {
        const float* numbers = from + k * from_step + first;
        if (is_whole.value) x = *reinterpret_cast<const V*>(numbers);
        else for (int64_t l = 0; l < width - first; ++l) x[l] = numbers[l];
        for (int i = 0; i < piece.value; ++i) sums[i] += matrix[(n + i) * terms + k] * x;
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
  const int64_t blocks = (z.c + BLOCK - 1) / BLOCK;
  each(threads, PARTS, [=](int64_t part) {
    float* between = z.space + part * z.a * z.s * BLOCK;  // [a, s, BLOCK]
    for (int64_t block = blocks * part / PARTS; block < blocks * (part + 1) / PARTS; ++block) {
      const int64_t start = block * BLOCK, width = z.c - start < BLOCK ? z.c - start : BLOCK;
      for (int64_t i = 0; i < z.a; ++i)
        multiply(z.columns, z.s, z.b, z.x + i * z.b * z.c + start, z.c,
                 between + i * z.s * BLOCK, BLOCK, width);
      for (int64_t j = 0; j < z.s; ++j)
        multiply(z.rows, z.r, z.a, between + j * BLOCK, z.s * BLOCK,
                 z.y + j * z.c + start, z.s * z.c, width);
    }
  });
}

#else
struct TransformOp : OpKernel {
  explicit TransformOp(OpKernelConstruction* c) : OpKernel(c) { choose(c, &kernel, KERNELS); }
  void Compute(OpKernelContext* context) override {
    const Tensor &rows = context->input(0), &columns = context->input(1), &x = context->input(2);
    bool fits = rows.dims() == 2 && columns.dims() == 2 && x.dims() == 3;
    fits = fits && rows.dim_size(1) == x.dim_size(0) && columns.dim_size(1) == x.dim_size(1);
    OP_REQUIRES(context, fits,
                errors::InvalidArgument("Matrices of shapes ", rows.shape().DebugString(), " and ",
                                        columns.shape().DebugString(), " cannot transform ",
                                        x.shape().DebugString(), "."));
    Transform z{rows.dim_size(0), x.dim_size(0), columns.dim_size(0), x.dim_size(1), x.dim_size(2)};
    Tensor *y, space;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({z.r, z.s, z.c}), &y));
    OP_REQUIRES_OK(context, context->allocate_temp(DT_FLOAT, TensorShape({PARTS, z.a, z.s, BLOCK}), &space));
    z.rows = rows.flat<float>().data(), z.columns = columns.flat<float>().data();
    z.x = x.flat<float>().data(), z.y = y->flat<float>().data(), z.space = space.flat<float>().data();
    kernel(z, threads_of(context));
  }
  Kernel* kernel = nullptr;
};
REGISTER_OP("CapsnetTransform")
    .Input("rows: float").Input("columns: float").Input("x: float").Output("y: float")
    .Attr("instructions: string = ''").SetShapeFn([](shape_inference::InferenceContext* c) {
      shape_inference::ShapeHandle rows, columns, x;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 2, &rows));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 2, &columns));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(2), 3, &x));
      c->set_output(0, c->MakeShape({c->Dim(rows, 0), c->Dim(columns, 0), c->Dim(x, 2)}));
      return absl::OkStatus();
    });
REGISTER_KERNEL_BUILDER(Name("CapsnetTransform").Device(DEVICE_CPU), TransformOp);
#endif
}  // namespace capsnet::winograd
