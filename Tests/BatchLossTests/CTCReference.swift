import BatchLoss
import Foundation

// The reference that CTC is checked against: plain loops in Double over logarithms, written from the
// definition, and below it the definition itself, a sum over every sequence of classes.

/// One utterance as log-probabilities and its labels.
struct CTCReference {
  /// Frames of log-probabilities.
  let logProbabilities: [[Double]]
  let labels: [Int]
  let blank: Int

  /// The labels with blanks around them.
  private var states: [Int] { labels.reduce(into: [blank]) { $0 += [$1, blank] } }

  /// −log of the sum over all alignments.
  var loss: Double {
    guard let last = forward.last else { return labels.isEmpty ? 0 : .infinity }
    let count = last.count
    return -logSum(last[count - 1], count > 1 ? last[count - 2] : -.infinity)
  }

  /// γ: the posterior of every class in every frame.
  var posteriors: [[Double]] {
    let (alpha, beta, loss, states) = (forward, backward, loss, states)
    return logProbabilities.indices.map { frame in
      var row = [Double](repeating: 0, count: logProbabilities[frame].count)
      for (state, label) in states.enumerated() {
        row[label] += exp(alpha[frame][state] + beta[frame][state] + loss)
      }
      return row
    }
  }

  private func maySkip(to state: Int, _ states: [Int]) -> Bool {
    state >= 2 && states[state] != blank && states[state] != states[state - 2]
  }

  /// log α, with the emission of its own frame.
  private var forward: [[Double]] {
    let states = states
    var result: [[Double]] = []
    for (frame, row) in logProbabilities.enumerated() {
      result.append(
        states.indices.map { state in
          guard frame > 0 else { return state < 2 ? row[states[state]] : -.infinity }
          let before = result[frame - 1]
          var sum = before[state]
          if state >= 1 { sum = logSum(sum, before[state - 1]) }
          if maySkip(to: state, states) { sum = logSum(sum, before[state - 2]) }
          return sum + row[states[state]]
        })
    }
    return result
  }

  /// log β, without the emission of its own frame.
  private var backward: [[Double]] {
    let states = states
    var result = logProbabilities.map { _ in [Double](repeating: -.infinity, count: states.count) }
    for frame in logProbabilities.indices.reversed() {
      guard frame + 1 < logProbabilities.count else {
        result[frame][states.count - 1] = 0
        if states.count > 1 { result[frame][states.count - 2] = 0 }
        continue
      }
      let (after, row) = (result[frame + 1], logProbabilities[frame + 1])
      for state in states.indices {
        var sum = after[state] + row[states[state]]
        if state + 1 < states.count { sum = logSum(sum, after[state + 1] + row[states[state + 1]]) }
        if state + 2 < states.count, maySkip(to: state + 2, states) {
          sum = logSum(sum, after[state + 2] + row[states[state + 2]])
        }
        result[frame][state] = sum
      }
    }
    return result
  }
}

func logSum(_ a: Double, _ b: Double) -> Double {
  let (low, high) = (min(a, b), max(a, b))
  return low == -.infinity ? high : high + log1p(exp(low - high))
}

func logSoftmax(_ row: [Double]) -> [Double] {
  let largest = row.max() ?? 0
  let sum = row.reduce(0) { $0 + exp($1 - largest) }
  return row.map { ($0 - largest) - log(sum) }
}

/// Drops repeats, then blanks.
func collapse(_ path: [Int], blank: Int) -> [Int] {
  var labels: [Int] = []
  for (frame, label) in path.enumerated() where label != blank && (frame == 0 || path[frame - 1] != label) {
    labels.append(label)
  }
  return labels
}

/// Every sequence of `count` of the classes.
func allPaths(frames: Int, classes: Int) -> [[Int]] {
  (0..<frames).reduce([[]]) { paths, _ in paths.flatMap { path in (0..<classes).map { path + [$0] } } }
}

/// A batch for the tests: batch-major logits, ragged lengths.
struct CTCSample {
  var batch: Int
  var time: Int
  var classes: Int
  var blank = 0
  /// batch × time × classes.
  var logits: [Double]
  var labels: [[Int]]
  var inputLengths: [Int]

  var targetLengths: [Int] { labels.map(\.count) }
  var width: Int { targetLengths.max() ?? 0 }
  /// Rows of equal width; what follows a length is no class.
  var padded: [Int] { labels.flatMap { $0 + [Int](repeating: -9, count: width - $0.count) } }

  func row(_ utterance: Int, _ frame: Int) -> [Double] {
    let start = (utterance * time + frame) * classes
    return Array(logits[start..<start + classes])
  }

  /// The same rows in time-major order.
  var timeMajor: [Double] { (0..<time).flatMap { t in (0..<batch).flatMap { row($0, t) } } }

  func reference(_ utterance: Int, isNormalized: Bool = false) -> CTCReference {
    CTCReference(
      logProbabilities: (0..<inputLengths[utterance]).map {
        isNormalized ? row(utterance, $0) : logSoftmax(row(utterance, $0))
      }, labels: labels[utterance], blank: blank)
  }

  /// The gradient of the sum of the losses.
  func referenceGradient(isNormalized: Bool = false) -> [Double] {
    var gradient = [Double](repeating: 0, count: logits.count)
    for utterance in 0..<batch {
      let reference = reference(utterance, isNormalized: isNormalized)
      guard reference.loss < .infinity else { continue }
      for (frame, posterior) in reference.posteriors.enumerated() {
        for k in 0..<classes {
          let y = isNormalized ? 0 : exp(reference.logProbabilities[frame][k])
          gradient[(utterance * time + frame) * classes + k] = y - posterior[k]
        }
      }
    }
    return gradient
  }

  /// Random lengths and logits exact in `Float`; targets always fit unless `fits` is false.
  static func random(
    batch: Int, time: Int, classes: Int, labels: Int, deviation: Double = 1, blank: Int = 0, ragged: Bool = true,
    fits: Bool = true, using generator: inout SplitMix
  ) -> CTCSample {
    var sample = CTCSample(
      batch: batch, time: time, classes: classes, blank: blank, logits: [], labels: [], inputLengths: [])
    sample.logits = (0..<batch * time * classes).map { _ in
      Double(Float(deviation * generator.normal()))
    }
    for _ in 0..<batch {
      let frames = ragged ? Int.random(in: 0...time, using: &generator) : time
      var target: [Int] = []
      let others = (0..<classes).filter { $0 != blank }
      if let first = others.first {
        for _ in 0..<(ragged ? Int.random(in: 0...labels, using: &generator) : labels) {
          let repeats = Int.random(in: 0..<4, using: &generator) == 0
          target.append(repeats ? target.last ?? first : others.randomElement(using: &generator)!)
        }
      }
      while fits, target.count + zip(target, target.dropFirst()).count(where: ==) > frames { target.removeLast() }
      sample.labels.append(target)
      sample.inputLengths.append(frames)
    }
    return sample
  }
}

extension Sequence {
  fileprivate func count(where predicate: (Element) -> Bool) -> Int { reduce(0) { $0 + (predicate($1) ? 1 : 0) } }
}

/// Random numbers that are the same in every run.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  mutating func normal() -> Double {
    let (u, v) = (Double.random(in: 1e-300..<1, using: &self), Double.random(in: 0..<1, using: &self))
    return (-2 * log(u)).squareRoot() * cos(2 * .pi * v)
  }
}
