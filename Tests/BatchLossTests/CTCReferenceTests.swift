import BatchLoss
import BatchLossKernelInterface
import BatchLossTestSupport
import Testing

// CTC against the reference in logarithms (CTCReference): random shapes, lengths, repeats and blanks; every
// layout, input, scalar type and instruction set; long utterances and logits so far apart that plain float64
// would underflow. Tolerances: the reference itself loses about 2⁻⁵² times its logarithms, which at 10⁵ is
// 1e-11; a Float gradient is off by the rounding of its softmax, 1e-6 at most.

@Suite struct CTCReferenceTests {
  private func check<Scalar: LossScalar>(
    _ sample: CTCSample, _ run: CTCRun, _: Scalar.Type, tolerance: Double, _ note: String = ""
  ) throws {
    let result = try run(sample, Scalar.self)
    let isNormalized = run.input == .logProbabilities
    let losses = (0..<sample.batch).map { sample.reference($0, isNormalized: isNormalized).loss }
    for (loss, expected) in zip(result.losses, losses) {
      let isClose = Double(loss) == expected || abs(Double(loss) - expected) <= tolerance * max(1, abs(expected))
      #expect(isClose, "\(loss) and not \(expected) \(note)")
    }
    let difference = largestDifference(result.gradient, sample.referenceGradient(isNormalized: isNormalized))
    #expect(difference <= tolerance, "gradient off by \(difference) \(note)")
  }

  @Test(arguments: 0..<40)
  func randomBatches(seed: Int) throws {
    var generator = SplitMix(state: UInt64(seed))
    let classes = Int.random(in: 2...40, using: &generator)
    let sample = CTCSample.random(
      batch: Int.random(in: 1...7, using: &generator), time: Int.random(in: 0...24, using: &generator),
      classes: classes, labels: Int.random(in: 0...20, using: &generator),
      deviation: [0.1, 1, 5, 30, 300].randomElement(using: &generator)!,
      blank: Int.random(in: 0..<classes, using: &generator), fits: seed % 5 != 0, using: &generator)
    var run = CTCRun(
      layout: seed % 2 == 0 ? .batchMajor : .timeMajor, isInPlace: seed % 3 == 0, isConcatenated: seed % 5 < 2,
      padding: seed % 7, workers: 1 + seed % 3)
    try check(sample, run, Double.self, tolerance: 1e-10, "seed \(seed)")
    try check(sample, run, Float.self, tolerance: 3e-6, "seed \(seed)")
    run.input = .logProbabilities
    try check(sample, run, Double.self, tolerance: 1e-10, "seed \(seed), log-probabilities")
    try check(sample, run, Float.self, tolerance: 3e-6, "seed \(seed), log-probabilities")
  }

  /// Label counts and class counts around the widths of vectors.
  @Test(arguments: [0, 1, 6, 7, 8, 9, 14, 15, 16, 17, 23, 24, 31, 32, 33, 63, 64, 65])
  func widths(labels: Int) throws {
    var generator = SplitMix(state: UInt64(labels) + 99)
    for classes in [2, 15, 16, 17, 33, 70, 128, 129, 300] {
      let sample = CTCSample.random(
        batch: 2, time: 2 * labels + 3, classes: classes, labels: labels, ragged: false, using: &generator)
      try check(sample, CTCRun(), Double.self, tolerance: 1e-11, "\(labels) labels of \(classes)")
      try check(sample, CTCRun(isInPlace: true), Float.self, tolerance: 2e-6, "\(labels) labels of \(classes)")
    }
  }

  /// Frame counts around the widths of vectors, which decide what is transposed and what stays rows, with few
  /// classes and with many.
  @Test(arguments: 1...35)
  func frames(count: Int) throws {
    var generator = SplitMix(state: UInt64(count) + 7)
    for classes in [3, 16, 29, 40, 128, 150] {
      let sample = CTCSample.random(
        batch: 2, time: count, classes: classes, labels: min(count / 2, 5), ragged: false, using: &generator)
      var run = CTCRun(layout: count % 2 == 0 ? .batchMajor : .timeMajor, isInPlace: count % 3 == 0)
      try check(sample, run, Double.self, tolerance: 1e-11, "\(count) frames of \(classes)")
      try check(sample, run, Float.self, tolerance: 2e-6, "\(count) frames of \(classes)")
      run = CTCRun(padding: 1 + count % 5)
      try check(sample, run, Float.self, tolerance: 2e-6, "\(count) frames of \(classes), gaps between rows")
    }
  }

  /// Enough classes and few enough labels for streamed gradients, with rows that start anywhere.
  @Test func streamedGradients() throws {
    var generator = SplitMix(state: 17)
    let sample = CTCSample.random(
      batch: 2, time: 240, classes: 9999, labels: 20, ragged: false, using: &generator)
    try check(sample, CTCRun(padding: 3, workers: 2), Float.self, tolerance: 2e-6)
  }

  /// As many frames as labels without repeats, and a few more: the band of states that alignments pass through is
  /// then as narrow as it can be, and begins and ends at every lane of a vector.
  @Test(arguments: 1...33, [0, 1, 2, 7, 8, 9])
  func narrowBands(labels: Int, spare: Int) throws {
    var generator = SplitMix(state: UInt64(labels * 10 + spare))
    let time = labels + spare
    for classes in [40, 200] {
      let sample = CTCSample(
        batch: 1, time: time, classes: classes,
        logits: (0..<time * classes).map { _ in Double(Float(generator.normal())) },
        labels: [Array(1...labels)], inputLengths: [time])
      try check(sample, CTCRun(), Double.self, tolerance: 1e-11, "\(labels) labels of \(classes) in \(time) frames")
      try check(sample, CTCRun(), Float.self, tolerance: 2e-6, "\(labels) labels of \(classes) in \(time) frames")
    }
  }

  /// Which recursion gave a result cannot be told from it: logits near each other must not need the wide one, and
  /// logits far apart must.
  @Test func narrowRecursionSuffices() throws {
    var generator = SplitMix(state: 21)
    for labels in [0, 1, 7, 8, 15, 16, 33] {
      for spare in [1, 2, 9, 60] {
        for (deviation, expected) in [(1.0, false), (5, false), (300, true)] where !expected || spare + labels > 60
        {
          for writes in [false, true] {
            let isWide = try runsWide(
              frames: labels + spare, labels: labels, deviation: deviation, writes: writes, &generator)
            #expect(isWide == expected, "\(labels) labels, \(labels + spare) frames, deviation \(deviation)")
          }
        }
      }
    }
  }

  private func runsWide(
    frames: Int, labels: Int, deviation: Double, writes: Bool, _ generator: inout SplitMix
  ) throws -> Bool {
    let classes = 40
    let layout = CTCWorkspace(
      frames: frames, labels: labels, columns: classes, scalarBytes: 4, hasTable: true)
    // NaN, since scratch memory holds whatever was there.
    let scratch = GuardedBuffer<Double>(rows: 1, columns: layout.bytes / 8)
    let logits = (0..<frames * classes).map { _ in Float(deviation * generator.normal()) }
    let numbers = (0..<max(1, labels)).map { Int32($0 + 1) }
    var gradient = [Float](repeating: 0, count: logits.count)
    let kernels = try KernelSelection.current.table(Float.self).ctc
    return logits.withUnsafeBufferPointer { logits in
      numbers.withUnsafeBufferPointer { numbers in
        gradient.withUnsafeMutableBufferPointer { gradient in
          var arguments = CTCArguments(
            input: logits.baseAddress!, inputStride: classes, gradient: writes ? gradient.baseAddress! : nil,
            gradientStride: classes, frames: frames, columns: classes, labels: numbers.baseAddress!,
            labelCount: labels, blank: 0, isNormalized: false, streams: false, scale: 1,
            workspace: UnsafeMutableRawPointer(scratch.base))
          kernels.evaluate(&arguments)
          #expect(arguments.outcome == .finite && gradient.allSatisfy { $0.isFinite })
          return arguments.isWide
        }
      }
    }
  }

  // MARK: Where plain floating point underflows

  @Test(arguments: [1.0, 20, 100], [12, 200])
  func longUtterances(deviation: Double, classes: Int) throws {
    var generator = SplitMix(state: UInt64(deviation))
    let sample = CTCSample.random(
      batch: 1, time: 1000, classes: classes, labels: 200, deviation: deviation, ragged: false, using: &generator)
    try check(sample, CTCRun(), Double.self, tolerance: 1e-8, "deviation \(deviation)")
    try check(sample, CTCRun(), Float.self, tolerance: 1e-6, "deviation \(deviation)")
  }

  /// As many frames as the target needs leave one alignment; the others underflow by thousands of bits.
  @Test func tightAndVeryLong() throws {
    var generator = SplitMix(state: 4)
    let tight = CTCSample.random(
      batch: 1, time: 400, classes: 50, labels: 330, deviation: 3, ragged: false, fits: true, using: &generator)
    try check(tight, CTCRun(), Float.self, tolerance: 1e-6)
    let long = CTCSample.random(
      batch: 1, time: 4000, classes: 5, labels: 60, deviation: 100, ragged: false, using: &generator)
    try check(long, CTCRun(), Float.self, tolerance: 1e-6)
    try check(long, CTCRun(), Double.self, tolerance: 1e-8)
  }

  /// Blanks all but certain at both ends and labels in the middle, so that what is negligible in one part of an
  /// utterance decides in another.
  @Test func lateWinners() throws {
    for gap in [40.0, 80, 86, 200, 5000] {
      let (time, classes) = (120, 3)
      var sample = CTCSample(
        batch: 1, time: time, classes: classes, logits: [], labels: [[1, 2, 1]], inputLengths: [time])
      for frame in 0..<time {
        sample.logits += frame < 40 || frame >= 80 ? [0, -gap, -gap] : [-gap, 0, -gap / 2]
      }
      try check(sample, CTCRun(), Double.self, tolerance: 1e-9, "gap \(gap)")
      try check(sample, CTCRun(), Float.self, tolerance: 2e-6, "gap \(gap)")
    }
  }

  /// Wide rows guess their largest element from their first ones: here it comes late, and what comes first may be −∞.
  @Test(arguments: [5.0, 30, 59, 61, 87, 200, 1e4])
  func largestElementsLate(height: Double) throws {
    var generator = SplitMix(state: 17)
    for (blank, labels) in [(0, [600, 3, 600]), (650, [3, 620])] {
      var sample = CTCSample.random(
        batch: 1, time: 7, classes: 700, labels: 0, blank: blank, ragged: false, using: &generator)
      sample.labels = [labels]
      for frame in [1, 3, 6] { sample.logits[frame * 700 + 620] += height }
      for column in 0..<300 where column != blank { sample.logits[2 * 700 + column] = -.infinity }
      try check(sample, CTCRun(), Double.self, tolerance: 1e-10, "height \(height), blank \(blank)")
      try check(sample, CTCRun(isInPlace: true), Float.self, tolerance: 3e-6, "height \(height), blank \(blank)")
    }
  }

  /// A loss near 0 stays there where the class that is certain comes late in a wide row.
  @Test func certainClassesLate() throws {
    let (time, classes) = (1000, 700)
    for height in [3.0, 40.3] {
      var sample = CTCSample(
        batch: 1, time: time, classes: classes, logits: [Double](repeating: 0, count: time * classes),
        labels: [[600]], inputLengths: [time])
      for frame in 0..<time {
        sample.logits[frame * classes] = 0.25
        sample.logits[frame * classes + 600] = Double(Float(height))
      }
      let expected = sample.reference(0).loss
      let loss = Double(try CTCRun()(sample, Float.self).losses[0])
      #expect(abs(loss - expected) <= 1e-6 * expected + 1e-11, "\(loss), not \(expected), height \(height)")
    }
  }

  // MARK: Instruction sets

  @Test func everyInstructionSet() throws {
    var generator = SplitMix(state: 8)
    for (deviation, classes) in [(1.0, 21), (50, 21), (1, 32), (1, 150), (50, 150)] {
      for labels in [0, 5, 8, 30] {
        let sample = CTCSample.random(
          batch: 1, time: 75, classes: classes, labels: labels, deviation: deviation, ragged: false,
          using: &generator)
        for level in InstructionSet.available {
          for streams in [false, true] {
            for input in CTCLoss.Input.allCases {
              try runKernel(level, sample, Float.self, input, streams: streams, tolerance: 3e-6)
              try runKernel(level, sample, Double.self, input, streams: streams, tolerance: 1e-10)
            }
          }
        }
      }
    }
  }

  private func runKernel<Scalar: LossScalar>(
    _ level: InstructionSet, _ sample: CTCSample, _: Scalar.Type, _ input: CTCLoss.Input, streams: Bool,
    tolerance: Double
  ) throws {
    let isNormalized = input == .logProbabilities
    let kernels = KernelSelection(level).table(Scalar.self).ctc
    let logits = sample.logits.map { Scalar($0) }
    let labels = sample.labels[0].map(Int32.init)
    // Streamed rows start at cache lines where their length allows.
    let gradient = UnsafeMutableBufferPointer(
      start: UnsafeMutableRawPointer.allocate(byteCount: logits.count * MemoryLayout<Scalar>.stride, alignment: 64)
        .bindMemory(to: Scalar.self, capacity: logits.count), count: logits.count)
    gradient.initialize(repeating: -123)
    defer { UnsafeMutableRawPointer(gradient.baseAddress!).deallocate() }
    let layout = CTCWorkspace(
      frames: sample.time, labels: labels.count, columns: sample.classes,
      scalarBytes: MemoryLayout<Scalar>.stride, hasTable: !isNormalized)
    // NaN, since scratch memory may hold anything, up to a page that may not be touched.
    let scratch = GuardedBuffer<Double>(rows: 1, columns: layout.bytes / 8)
    logits.withUnsafeBufferPointer { input in
      labels.withUnsafeBufferPointer { target in
        var arguments = CTCArguments<Scalar>(
          input: input.baseAddress!, inputStride: sample.classes, gradient: gradient.baseAddress!,
          gradientStride: sample.classes, frames: sample.time, columns: sample.classes,
          labels: target.baseAddress ?? UnsafePointer(bitPattern: 4)!, labelCount: labels.count, blank: 0,
          isNormalized: isNormalized, streams: streams, scale: 1,
          workspace: UnsafeMutableRawPointer(scratch.base))
        kernels.evaluate(&arguments)
        #expect(arguments.outcome == .finite)
      }
    }
    let expected = sample.referenceGradient(isNormalized: isNormalized)
    let difference = largestDifference(Array(gradient), expected)
    #expect(difference <= tolerance, "\(level) \(Scalar.self) \(labels.count) labels: off by \(difference)")
    #expect(scratch.isIntact, "\(level) \(Scalar.self) \(labels.count) labels of \(sample.classes)")
  }
}
