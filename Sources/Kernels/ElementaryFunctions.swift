import BatchLossFormulas
import BatchLossKernelInterface

/// Applies an elementary function to `count` numbers, for checks of its accuracy.
@inline(__always)
func applyElementaryFunction<V: KernelVector>(
  _ function: ElementaryFunction, _ input: UnsafePointer<V.Lane>, _ output: UnsafeMutablePointer<V.Lane>,
  _ count: Int, as: V.Type
) {
  switch function {
  case .exp: map(input, output, count) { V.exp($0) }
  case .expOfNonPositive: map(input, output, count) { V.exp(nonPositive: $0) }
  case .expOfSummand: map(input, output, count) { V.exp(ofSummand: $0) }
  case .expMinusOne: map(input, output, count) { V.expMinusOne($0) }
  case .log: map(input, output, count) { V.log($0) }
  case .logOnePlus: map(input, output, count) { V.log(onePlus: $0) }
  case .logOnePlusFraction: map(input, output, count) { V.log(onePlusFraction: $0) }
  case .root: map(input, output, count) { V.roots(of: $0).root }
  case .inverseRoot: map(input, output, count) { V.roots(of: $0).inverse }
  case .tanh: map(input, output, count) { V.tanh($0) }
  case .softplus: map(input, output, count) { V.softplus($0) }
  case .sigmoid: map(input, output, count) { V.sigmoid($0) }
  }
}

@inline(__always)
private func map<V: KernelVector>(
  _ input: UnsafePointer<V.Lane>, _ output: UnsafeMutablePointer<V.Lane>, _ count: Int,
  _ transform: (V) -> V
) {
  let whole = count - count % V.laneCount
  var index = 0
  while index < whole {
    transform(V.load(input + index)).store(output + index)
    index += V.laneCount
  }
  guard whole < count else { return }
  let rest = count - whole
  transform(V.load(input + whole, count: rest)).store(output + whole, count: rest)
}
