import BatchLossFormulas
import BatchLossKernelInterface

#if BATCHLOSS_X86_V3 || BATCHLOSS_X86_V4
  import _Builtin_intrinsics.intel
#endif

/// The larger of the two, `left` where one is NaN: one instruction a register, which a comparison and a blend of
/// vectors of two registers are not.
@inline(__always)
func ctcLarger<V: KernelVector>(_ left: V, _ right: V) -> V {
  #if BATCHLOSS_X86_V4
    if V.laneCount == 16 {
      let (a, b) = (unsafeBitCast(right, to: SIMD16<Float>.self), unsafeBitCast(left, to: SIMD16<Float>.self))
      return unsafeBitCast(_mm512_max_ps(a, b), to: V.self)
    }
    let (a, b) = (unsafeBitCast(right, to: SIMD8<Double>.self), unsafeBitCast(left, to: SIMD8<Double>.self))
    return unsafeBitCast(_mm512_max_pd(a, b), to: V.self)
  #elseif BATCHLOSS_X86_V3
    if V.laneCount == 16 {
      let (a, b) = (unsafeBitCast(right, to: SIMD16<Float>.self), unsafeBitCast(left, to: SIMD16<Float>.self))
      let larger = SIMD16(
        lowHalf: _mm256_max_ps(a.lowHalf, b.lowHalf), highHalf: _mm256_max_ps(a.highHalf, b.highHalf))
      return unsafeBitCast(larger, to: V.self)
    }
    let (a, b) = (unsafeBitCast(right, to: SIMD8<Double>.self), unsafeBitCast(left, to: SIMD8<Double>.self))
    let larger = SIMD8(
      lowHalf: _mm256_max_pd(a.lowHalf, b.lowHalf), highHalf: _mm256_max_pd(a.highHalf, b.highHalf))
    return unsafeBitCast(larger, to: V.self)
  #else
    return V.maximum(left, right)
  #endif
}

/// The smaller of the two, `left` where one is NaN.
@inline(__always)
func ctcSmaller<V: KernelVector>(_ left: V, _ right: V) -> V { V(0) - ctcLarger(V(0) - left, V(0) - right) }
