import BatchLossKernelInterface

/// One block of rows; the width of the rows alone decides how.
@inline(__always)
func softmaxCrossEntropy<V: KernelVector>(
  _ arguments: inout SoftmaxCrossEntropyArguments<V.Lane>, as: V.Type
) {
  if arguments.columns <= SoftmaxPlan.laneColumns {
    softmaxCrossEntropyLanes(&arguments, as: V.self)
  } else {
    softmaxCrossEntropyRows(&arguments, as: V.self)
  }
}
