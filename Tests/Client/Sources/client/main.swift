import BatchLoss
import Foundation

/// A loss of this package's own.
struct Cauchy: ElementwiseLoss {
  let scale: Double

  func evaluate<V: LossVector>(prediction: V, target: V) -> (loss: V, derivative: V) {
    let ratio = (prediction - target) / V(scale)
    return (.log(onePlus: ratio * ratio), 2 / scale * ratio / (1 + ratio * ratio))
  }
}

/// The package's absolute error written again, to compare what is recorded with what is compiled.
struct AbsoluteError: ElementwiseLoss {
  func evaluate<V: LossVector>(prediction: V, target: V) -> (loss: V, derivative: V) {
    let error = prediction - target
    return (error.magnitude, error.sign)
  }
}

func require(_ condition: Bool, _ message: String) {
  guard !condition else { return }
  print("failed: \(message)")
  exit(1)
}

let predictions: [Float] = (0..<1003).map { Float($0) / 100 - 5 }
let targets: [Float] = (0..<1003).map { Float($0 % 3) }
var gradient = [Float](repeating: 0, count: 1003)

let cauchy = Cauchy(scale: 2)
let cost = try cauchy.evaluate(
  predictions.matrix(columns: 17), targets: targets.matrix(columns: 17),
  gradient: gradient.mutableMatrix(columns: 17))
var expected = 0.0
for (x, t) in zip(predictions, targets) {
  let ratio = Double(x - t) / 2
  expected += log1p(ratio * ratio)
}
require(abs(cost.sum - expected) < 1e-6 * expected, "the sum of a client's loss")
require(cost.denominator == 1003, "its denominator")
for (index, (x, t)) in zip(predictions, targets).enumerated() {
  let ratio = Double(x - t) / 2
  let slope = ratio / (1 + ratio * ratio) / 1003
  require(abs(Double(gradient[index]) - slope) < 1e-9, "its gradient at \(index)")
}

var compiled = gradient
try AbsoluteError().evaluate(
  predictions.matrix(columns: 17), targets: targets.matrix(columns: 17),
  gradient: gradient.mutableMatrix(columns: 17))
try MeanAbsoluteError().evaluate(
  predictions.matrix(columns: 17), targets: targets.matrix(columns: 17),
  gradient: compiled.mutableMatrix(columns: 17))
require(gradient == compiled, "the gradient of a recorded formula equals that of a compiled one")

let labels = [0, 2]
let logits: [Float] = [1, 2, 3, 1, 2, 3]
let entropy = try SoftmaxCrossEntropy().evaluate(logits.matrix(columns: 3), targets: labels.span)
require(abs(entropy.value - 1.4076059644443806) < 1e-6, "softmax cross-entropy")

do {
  try SoftmaxCrossEntropy().evaluate(logits.matrix(columns: 3), targets: [0, 3].span)
  require(false, "a label out of range throws")
} catch {
  require(error.code == .invalidLabel && error.parameter == "targets", "its error")
}
print("client: 6 checks passed on \(try InstructionSet.current.rawValue)")
