import BatchLossFormulas
import BatchLossKernelInterface

/// Runs a recorded formula, instruction by instruction over tiles that stay in the first-level cache.
@inline(__always)
func interpretFormula<V: KernelVector>(
  _ program: FormulaProgram, _ scratch: UnsafeMutablePointer<V.Lane>,
  _ arguments: inout ElementwiseArguments<V.Lane>, as: V.Type
) {
  let tile = FormulaProgram.tile
  for index in 0..<program.constantCount {
    let instruction = program.instructions[index]
    let value = V(instruction.constant)
    forEachVector(of: tile, as: V.self) { value.store(scratch + (instruction.result * tile + $0)) }
  }
  var sums = (sum: 0.0, active: 0)
  var start = 0
  while start < arguments.count {
    let count = min(tile, arguments.count - start)
    var predictions = arguments.predictions + start
    var targets = arguments.targets + start
    if count < tile {
      copy(predictions, scratch, count, tile, as: V.self)
      copy(targets, scratch + tile, count, tile, as: V.self)
      predictions = UnsafePointer(scratch)
      targets = UnsafePointer(scratch + tile)
    }
    for index in program.constantCount..<program.count {
      execute(program.instructions[index], scratch, predictions, targets, as: V.self)
    }
    let losses = register(program.loss, scratch, predictions, targets, as: V.self)
    let derivatives = register(program.derivative, scratch, predictions, targets, as: V.self)
    var index = 0
    while index < count {
      let lanes = min(V.laneCount, count - index)
      emit(
        loss: V.load(losses + index), derivative: V.load(derivatives + index), start + index, lanes,
        arguments, &sums, as: V.self)
      index += lanes
    }
    start += count
  }
  arguments.sum = sums.sum
  arguments.active = sums.active
}

@inline(__always)
private func forEachVector<V: KernelVector>(of count: Int, as: V.Type, _ body: (Int) -> Void) {
  var index = 0
  while index < count {
    body(index)
    index += V.laneCount
  }
}

@inline(__always)
private func copy<V: KernelVector>(
  _ source: UnsafePointer<V.Lane>, _ destination: UnsafeMutablePointer<V.Lane>, _ count: Int, _ padded: Int,
  as: V.Type
) {
  forEachVector(of: padded, as: V.self) { index in
    let lanes = max(0, min(V.laneCount, count - index))
    V.load(source + min(index, count), count: lanes).store(destination + index)
  }
}

@inline(__always)
private func register<V: KernelVector>(
  _ number: Int, _ scratch: UnsafeMutablePointer<V.Lane>, _ predictions: UnsafePointer<V.Lane>,
  _ targets: UnsafePointer<V.Lane>, as: V.Type
) -> UnsafePointer<V.Lane> {
  switch number {
  case 0: predictions
  case 1: targets
  default: UnsafePointer(scratch + number * FormulaProgram.tile)
  }
}

@inline(__always)
private func execute<V: KernelVector>(
  _ instruction: FormulaInstruction, _ scratch: UnsafeMutablePointer<V.Lane>,
  _ predictions: UnsafePointer<V.Lane>, _ targets: UnsafePointer<V.Lane>, as: V.Type
) {
  let a = register(instruction.a, scratch, predictions, targets, as: V.self)
  let b = register(instruction.b, scratch, predictions, targets, as: V.self)
  let c = register(instruction.c, scratch, predictions, targets, as: V.self)
  let result = scratch + instruction.result * FormulaProgram.tile
  let zero = V(lane: 0)
  let one = V(lane: 1)

  @inline(__always)
  func unary(_ apply: (V) -> V) {
    forEachVector(of: FormulaProgram.tile, as: V.self) { apply(V.load(a + $0)).store(result + $0) }
  }
  @inline(__always)
  func binary(_ apply: (V, V) -> V) {
    forEachVector(of: FormulaProgram.tile, as: V.self) {
      apply(V.load(a + $0), V.load(b + $0)).store(result + $0)
    }
  }
  @inline(__always)
  func ternary(_ apply: (V, V, V) -> V) {
    forEachVector(of: FormulaProgram.tile, as: V.self) {
      apply(V.load(a + $0), V.load(b + $0), V.load(c + $0)).store(result + $0)
    }
  }

  switch instruction.operation {
  case .constant: break
  case .add: binary { $0 + $1 }
  case .subtract: binary { $0 - $1 }
  case .multiply: binary { $0 * $1 }
  case .divide: binary { $0 / $1 }
  case .negate: unary { -$0 }
  case .isLess: binary { zero.replacing(with: one, where: $0 .< $1) }
  case .isLessOrEqual: binary { zero.replacing(with: one, where: $0 .<= $1) }
  case .isEqual: binary { zero.replacing(with: one, where: $0 .== $1) }
  case .and: binary { $0 * $1 }
  case .or: binary { V.maximum($0, $1) }
  case .not: unary { one - $0 }
  case .select: ternary { $0.replacing(with: $1, where: $2 .== one) }
  case .multiplyAdd: ternary { V.multiplyAdd($0, $1, $2) }
  case .magnitude: unary { $0.magnitude }
  case .squareRoot: unary { $0.squareRoot() }
  case .exp: unary { V.exp($0) }
  case .expOfNonPositive: unary { V.exp(nonPositive: $0) }
  case .expMinusOne: unary { V.expMinusOne($0) }
  case .log: unary { V.log($0) }
  case .logOnePlus: unary { V.log(onePlus: $0) }
  case .logOnePlusFraction: unary { V.log(onePlusFraction: $0) }
  case .tanh: unary { V.tanh($0) }
  }
}
