"""Prints the versions of CUDA and cuDNN that TensorFlow was built for, and loads its libraries."""

import ctypes

import tensorflow as tf

build = tf.sysconfig.get_build_info()
print(build['cuda_version'], build['cudnn_version'])
for library in ('cublas', 'cublasLt', 'cudart', 'cupti', 'cusparse'):
    ctypes.CDLL(f'lib{library}.so.12')
for library in ('cudnn.so.8', 'cufft.so.11', 'curand.so.10', 'cusolver.so.11', 'nccl.so.2'):
    ctypes.CDLL(f'lib{library}')
print('loaded')
