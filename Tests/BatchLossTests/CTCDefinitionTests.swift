import BatchLoss
import Foundation
import Testing

// CTC against its definition: the sum over all class sequences that collapse to the target (short
// utterances), differences of losses (gradient), PyTorch in float64, and values that others have published.
// Double is held to 1e-11, since the recursion is in Double; Float to 2e-6 of a loss and 1e-6 of a gradient.

@Suite struct CTCDefinitionTests {
  @Test(arguments: [[], [1], [2, 1], [1, 1], [1, 1, 1], [1, 2, 1], [2, 2, 1]] as [[Int]])
  func sumOverAllAlignments(labels: [Int]) throws {
    var generator = SplitMix(state: UInt64(labels.count) * 31 + 5)
    for frames in 0...6 {
      let sample = CTCSample(
        batch: 1, time: frames, classes: 3, logits: (0..<frames * 3).map { _ in 2 * generator.normal() },
        labels: [labels], inputLengths: [frames])
      let rows = (0..<frames).map { logSoftmax(sample.row(0, $0)) }
      var probability = 0.0
      var posteriors = rows.map { _ in [0.0, 0.0, 0.0] }
      for path in allPaths(frames: frames, classes: 3) where collapse(path, blank: 0) == labels {
        let product = exp(zip(path, rows).reduce(0) { $0 + $1.1[$1.0] })
        probability += product
        for (frame, label) in path.enumerated() { posteriors[frame][label] += product }
      }
      let result = try CTCRun()(sample, Double.self)
      guard probability > 0 else {
        #expect(result.cost.value == .infinity)
        #expect(result.gradient.allSatisfy { $0 == 0 })
        continue
      }
      #expect(abs(result.cost.value + log(probability)) < 1e-12)
      let expected = rows.indices.flatMap { t in (0..<3).map { exp(rows[t][$0]) - posteriors[t][$0] / probability }
      }
      #expect(largestDifference(result.gradient, expected) < 1e-12)
    }
  }

  @Test func finiteDifferences() throws {
    var generator = SplitMix(state: 3)
    for input in CTCLoss.Input.allCases {
      var sample = CTCSample.random(
        batch: 2, time: 7, classes: 4, labels: 3, ragged: false, using: &generator)
      sample.logits = sample.logits.map { $0 - 2 }
      let run = CTCRun(input: input, reduction: .mean)
      let gradient = try run(sample, Double.self).gradient
      let step = 1e-5
      for index in sample.logits.indices {
        var (above, below) = (sample, sample)
        above.logits[index] += step
        below.logits[index] -= step
        let difference = try run(above, Double.self).cost.value - run(below, Double.self).cost.value
        #expect(abs(difference / (2 * step) - gradient[index]) < 1e-8)
      }
    }
  }

  struct Fixtures: Decodable {
    struct Case: Decodable {
      let name: String
      let batch, time, classes, blank: Int
      let logits: [Double]
      let targets, inputLengths, targetLengths: [Int]
      let losses: [Double?]
      let mean, sum: Double
      let gradient: [Double]
      let weights: [Double]?
    }
    let cases: [Case]
  }

  @Test func matchesPyTorch() throws {
    let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("Fixtures/ctc.json")
    for item in try JSONDecoder().decode(Fixtures.self, from: Data(contentsOf: file)).cases {
      let width = item.targets.count / item.batch
      let sample = CTCSample(
        batch: item.batch, time: item.time, classes: item.classes, blank: item.blank, logits: item.logits,
        labels: (0..<item.batch).map { Array(item.targets[($0 * width)...].prefix(item.targetLengths[$0])) },
        inputLengths: item.inputLengths)
      func check<Scalar: LossScalar>(_: Scalar.Type, _ tolerance: Double) throws {
        let mean = try CTCRun(zeroInfinity: true, reduction: .mean, weights: item.weights)(sample, Scalar.self)
        let sum = try CTCRun(zeroInfinity: false, weights: item.weights)(sample, Scalar.self)
        #expect(abs(mean.cost.value - item.mean) <= tolerance * max(1, item.mean), "\(item.name)")
        let isFeasible = item.losses.allSatisfy { $0 != nil }
        #expect(
          isFeasible ? abs(sum.cost.value - item.sum) <= tolerance * max(1, item.sum) : sum.cost.value == .infinity,
          "\(item.name)")
        #expect(largestDifference(mean.gradient, item.gradient) <= tolerance, "\(item.name)")
        for (loss, expected) in zip(sum.losses, item.losses) {
          #expect(
            expected.map { abs(Double(loss) - $0) <= tolerance * max(1, $0) } ?? (loss == .infinity), "\(item.name)"
          )
        }
      }
      try check(Double.self, 1e-11)
      try check(Float.self, 1e-6)
    }
  }

  // MARK: Published values

  private func loss(_ logits: [Double], time: Int, classes: Int, _ labels: [Int], blank: Int = 0) throws -> Double {
    let sample = CTCSample(
      batch: 1, time: time, classes: classes, blank: blank, logits: logits, labels: [labels], inputLengths: [time])
    let float = try CTCRun()(sample, Float.self).cost.value
    let double = try CTCRun()(sample, Double.self).cost.value
    #expect(float == double || abs(float - double) < 1e-5 * max(1, double))
    return double
  }

  @Test func uniformFrames() throws {
    let zeros = [Double](repeating: 0, count: 12)
    #expect(abs(try loss(Array(zeros.prefix(6)), time: 2, classes: 3, [1]) - log(3)) < 1e-14)
    #expect(abs(try loss(Array(zeros.prefix(6)), time: 2, classes: 3, []) - 2 * log(3)) < 1e-14)
    #expect(try loss(Array(zeros.prefix(6)), time: 2, classes: 3, [1, 1]) == .infinity)
    #expect(abs(try loss(Array(zeros.prefix(6)), time: 3, classes: 2, [1, 1]) - 3 * log(2)) < 1e-14)
    #expect(abs(try loss(Array(zeros.prefix(9)), time: 3, classes: 3, [0, 1], blank: 2) + log(5.0 / 27)) < 1e-14)
  }

  /// The batch of the TensorFlow and warp-ctc tests, computed by A. Graves's implementation.
  @Test func gravesBatch() throws {
    let first: [[Double]] = [
      [0.633766, 0.221185, 0.0917319, 0.0129757, 0.0142857, 0.0260553],
      [0.111121, 0.588392, 0.278779, 0.0055756, 0.00569609, 0.010436],
      [0.0357786, 0.633813, 0.321418, 0.00249248, 0.00272882, 0.0037688],
      [0.0663296, 0.643849, 0.280111, 0.00283995, 0.0035545, 0.00331533],
      [0.458235, 0.396634, 0.123377, 0.00648837, 0.00903441, 0.00623107],
    ]
    let second: [[Double]] = [
      [0.30176, 0.28562, 0.0831517, 0.0862751, 0.0816851, 0.161508],
      [0.24082, 0.397533, 0.0557226, 0.0546814, 0.0557528, 0.19549],
      [0.230246, 0.450868, 0.0389607, 0.038309, 0.0391602, 0.202456],
      [0.280884, 0.429522, 0.0326593, 0.0339046, 0.0326856, 0.190345],
      [0.423286, 0.315517, 0.0338439, 0.0393744, 0.0339315, 0.154046],
    ]
    let gradient: [Double] = [
      -0.366234, 0.221185, 0.0917319, 0.0129757, 0.0142857, 0.0260553,
      0.111121, -0.411608, 0.278779, 0.0055756, 0.00569609, 0.010436,
      0.0357786, 0.633813, -0.678582, 0.00249248, 0.00272882, 0.0037688,
      0.0663296, -0.356151, 0.280111, 0.00283995, 0.0035545, 0.00331533,
      -0.541765, 0.396634, 0.123377, 0.00648837, 0.00903441, 0.00623107,
      -0.69824, 0.28562, 0.0831517, 0.0862751, 0.0816851, 0.161508,
      0.24082, -0.602467, 0.0557226, 0.0546814, 0.0557528, 0.19549,
      0.230246, 0.450868, 0.0389607, 0.038309, 0.0391602, -0.797544,
      0.280884, -0.570478, 0.0326593, 0.0339046, 0.0326856, 0.190345,
      -0.576714, 0.315517, 0.0338439, 0.0393744, 0.0339315, 0.154046,
    ]
    let sample = CTCSample(
      batch: 2, time: 5, classes: 6, blank: 5, logits: (first + second).flatMap { $0.map { log($0) } },
      labels: [[0, 1, 2, 1, 0], [0, 1, 1, 0]], inputLengths: [5, 5])
    func check<Scalar: LossScalar>(_: Scalar.Type) throws {
      let result = try CTCRun()(sample, Scalar.self)
      #expect(largestDifference(result.losses, [3.34211, 5.42262]) < 1e-5)
      #expect(largestDifference(result.gradient, gradient) < 2e-6)
    }
    try check(Float.self)
    try check(Double.self)
  }

  /// The case of burn's tests, whose mean and sum they give as well.
  @Test func sines() throws {
    var sample = CTCSample(
      batch: 3, time: 5, classes: 4, logits: [], labels: [[1, 2], [1], [3, 2, 1]], inputLengths: [5, 5, 5])
    for n in 0..<3 {
      for t in 0..<5 { for c in 0..<4 { sample.logits.append(sin(0.1 * Double(7 * t + 13 * n + 3 * c))) } }
    }
    let sum = try CTCRun()(sample, Float.self)
    #expect(largestDifference(sum.losses, [3.5236571, 3.4953139, 4.2626772]) < 5e-7)
    #expect(abs(sum.cost.value - 11.2816486) < 1e-6)
    #expect(abs(Double(sum.gradient[0]) + 0.1679008) < 2e-7)
    #expect(abs(try CTCRun(reduction: .mean)(sample, Float.self).cost.value - 2.2260115) < 1e-6)
  }

  /// The cases of Keras's tests. In the second, PyTorch and Keras take the blank for a label; here that is an
  /// error, and the mean over the first utterance alone follows from theirs.
  @Test func keras() throws {
    let frames = [
      [[0.4, 0.8, 0.4], [0.2, 0.8, 0.3], [0.9, 0.4, 0.5]], [[0.4, 0.8, 0.4], [0.2, 0.3, 0.3], [0.4, 0.3, 0.2]],
    ]
    let ops = CTCSample(
      batch: 2, time: 3, classes: 3, logits: frames.flatMap { $0.flatMap { $0 } }, labels: [[1, 2, 1], [1, 2]],
      inputLengths: [3, 2])
    #expect(largestDifference(try CTCRun()(ops, Float.self).losses, [3.4411672, 1.91680186]) < 5e-7)
    var ramp = CTCSample(
      batch: 1, time: 4, classes: 3, logits: (0..<12).map { (Double($0) - 12) / 100 }, labels: [[1, 2, 1]],
      inputLengths: [4])
    #expect(abs(try CTCRun()(ramp, Double.self).cost.value - (2 * 2.448645 - 2.4543600)) < 2e-6)
    ramp.labels = [[1, 2, 0]]
    #expect(throws: BatchLossError.self) { try CTCRun()(ramp, Double.self) }
  }
}
