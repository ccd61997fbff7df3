import BatchLoss
import BatchLossKernelInterface
import BatchLossTestSupport
import Testing

/// Kernels that write the gradient of a row while they read the next one, past the caches and not: the same bits, wherever
/// rows begin in lines and pages. What is kept of a row takes the place of what was kept of the one before.
@Suite struct StreamedRowTests {
  private static let widths =
    Array(1...40) + [63, 64, 65, 66, 79, 80, 100, 129, 192, 200, 255, 513, 530, 1000, 1024, 1025, 1041]
    + [2047, 2048, 2049, 2050, 4100, 8201]

  @Test(arguments: InstructionSet.available)
  func klDivergence(_ level: InstructionSet) {
    klDivergence(level, Float.self)
    klDivergence(level, Double.self)
  }

  private func klDivergence<Scalar: LossScalar>(_ level: InstructionSet, _: Scalar.Type) {
    let kernel = KernelSelection(level).table(Scalar.self).klDivergence
    var random = SplitMix(state: 5)
    let count = 4
    let forms: [(DistributionForm, DistributionForm)] = [
      (.logits, .logits), (.logits, .probabilities), (.logProbabilities, .probabilities),
    ]
    for columns in Self.widths {
      for (inputForm, targetForm) in forms {
        let input = (0..<count * columns).map { _ in Scalar(2 * random.normal()) }
        let targets = (0..<count * columns).map { _ in
          Scalar(targetForm == .logits ? 2 * random.normal() : abs(random.normal()))
        }
        func evaluate(
          streams: Bool, gaps: (Int, Int), wants: (input: Bool, target: Bool), weights: [Scalar]
        ) -> (losses: [Scalar], input: [Scalar], target: [Scalar]) {
          let x = GuardedBuffer(rows: count, columns: columns, input)
          let u = GuardedBuffer(rows: count, columns: columns, targets)
          let nothing = [Scalar](repeating: -7, count: count * columns)
          let inputGradient = GuardedBuffer(rows: count, columns: columns, gap: gaps.0, nothing)
          let targetGradient = GuardedBuffer(rows: count, columns: columns, gap: gaps.1, nothing)
          let scratch = scratch(KLDivergenceArguments<Scalar>.scratchCount(columns: columns), Scalar.self)
          defer { UnsafeMutableRawPointer(scratch.baseAddress!).deallocate() }
          var losses = [Scalar](repeating: 0, count: count)
          losses.withUnsafeMutableBufferPointer { losses in
            weights.withUnsafeBufferPointer { weights in
              var arguments = KLDivergenceArguments<Scalar>(
                input: UnsafePointer(x.base), inputStride: x.stride, inputForm: inputForm,
                target: UnsafePointer(u.base),
                targetStride: u.stride, targetForm: targetForm, rows: count, columns: columns, temperature: 2,
                scratch: scratch.baseAddress!)
              arguments.weights = weights.baseAddress!
              arguments.inputGradient = wants.input ? inputGradient.base : nil
              arguments.inputGradientStride = inputGradient.stride
              arguments.targetGradient = wants.target ? targetGradient.base : nil
              arguments.targetGradientStride = targetGradient.stride
              arguments.gradientScale = 0.5
              arguments.streams = streams
              arguments.losses = losses.baseAddress!
              kernel(&arguments)
            }
          }
          #expect(inputGradient.isIntact && targetGradient.isIntact, "\(level) \(columns)")
          return (losses, inputGradient.elements, targetGradient.elements)
        }
        for weights: [Scalar] in [[1, 2, 0.5, 1], [1, 0, 3, 1], [0, 1, 1, 0]] {
          let isDifferentiable = targetForm == .logits
          let expected = evaluate(streams: false, gaps: (0, 0), wants: (true, isDifferentiable), weights: weights)
          for gap in 0..<16 {
            let both = evaluate(
              streams: true, gaps: (gap, (gap * 7) & 15), wants: (true, isDifferentiable), weights: weights)
            #expect(both == expected, "\(level) \(Scalar.self) \(columns) columns, gap \(gap)")
          }
          let first = evaluate(streams: true, gaps: (3, 0), wants: (true, false), weights: weights)
          #expect(first.input == expected.input && first.losses == expected.losses, "\(level) \(columns) columns")
          guard isDifferentiable else { continue }
          let second = evaluate(streams: true, gaps: (0, 5), wants: (false, true), weights: weights)
          #expect(
            second.target == expected.target && second.losses == expected.losses, "\(level) \(columns) columns")
        }
      }
    }
  }

  /// Memory that holds NaN, as scratch memory may.
  private func scratch<Scalar: LossScalar>(_ count: Int, _: Scalar.Type) -> UnsafeMutableBufferPointer<Scalar> {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: count * MemoryLayout<Scalar>.stride, alignment: 64)
    let buffer = UnsafeMutableBufferPointer(
      start: memory.bindMemory(to: Scalar.self, capacity: count), count: count)
    buffer.initialize(repeating: .nan)
    return buffer
  }

  /// What a row of softmax cross-entropy is evaluated with.
  private enum SoftmaxOption: CaseIterable {
    case plain, smoothed, weighted, capped, probabilities, cappedProbabilities, everything
    /// Exponentials of the last elements are 0, so that the label's part of the gradient comes last.
    case vanishing, cappedVanishing
  }

  @Test(arguments: InstructionSet.available)
  func softmaxCrossEntropy(_ level: InstructionSet) {
    softmaxCrossEntropy(level, Float.self)
    softmaxCrossEntropy(level, Double.self)
  }

  private func softmaxCrossEntropy<Scalar: LossScalar>(_ level: InstructionSet, _: Scalar.Type) {
    let kernel = KernelSelection(level).table(Scalar.self).softmaxCrossEntropy
    var random = SplitMix(state: 6)
    let count = 4
    for columns in Self.widths {
      let logits = (0..<count * columns).map { _ in Scalar(2 * random.normal()) }
      let shares = (0..<count * columns).map { _ in Scalar(abs(random.normal())) }
      let classWeights = (0..<columns).map { _ in Scalar(0.5 + abs(random.normal())) }
      let sampleWeights: [Scalar] = [1, 0, 2, 0.5]
      for option in SoftmaxOption.allCases {
        var logits = logits
        if option == .vanishing || option == .cappedVanishing {
          for index in logits.indices where index % columns >= columns / 2 { logits[index] -= 1000 }
        }
        func evaluate(streams: Bool, gap: Int, labels: [Int32]) -> (losses: [Scalar], gradient: [Scalar]) {
          let z = GuardedBuffer(rows: count, columns: columns, logits)
          let gradient = GuardedBuffer(
            rows: count, columns: columns, gap: gap, [Scalar](repeating: -7, count: count * columns))
          let scratch = scratch(SoftmaxPlan.scratchCount(columns: columns), Scalar.self)
          defer { UnsafeMutableRawPointer(scratch.baseAddress!).deallocate() }
          var losses = [Scalar](repeating: 0, count: count)
          losses.withUnsafeMutableBufferPointer { losses in
            labels.withUnsafeBufferPointer { labels in
              shares.withUnsafeBufferPointer { shares in
                sampleWeights.withUnsafeBufferPointer { sampleWeights in
                  classWeights.withUnsafeBufferPointer { classWeights in
                    var arguments = SoftmaxCrossEntropyArguments<Scalar>(
                      logits: UnsafePointer(z.base), logitsStride: z.stride, rows: count, columns: columns,
                      readableLogits: count * columns, classWeightSum: Double(columns),
                      scratch: scratch.baseAddress!)
                    if option == .probabilities || option == .cappedProbabilities {
                      arguments.probabilities = shares.baseAddress!
                      arguments.probabilitiesStride = columns
                    } else {
                      arguments.labels = labels.baseAddress!
                    }
                    if option == .smoothed || option == .weighted || option == .everything {
                      arguments.labelSmoothing = 0.1
                    }
                    if option == .capped || option == .cappedProbabilities || option == .everything {
                      arguments.softCap = 3
                    }
                    if option == .cappedVanishing { arguments.softCap = 300 }
                    if option == .everything {
                      arguments.zLoss = 0.25
                      arguments.sampleWeights = sampleWeights.baseAddress!
                    }
                    if option == .weighted || option == .everything {
                      arguments.classWeights = classWeights.baseAddress!
                      arguments.classWeightSum = classWeights.reduce(0) { $0 + Double($1) }
                      arguments.mayHaveZeroClassWeight = false
                    }
                    arguments.gradient = gradient.base
                    arguments.gradientStride = gradient.stride
                    arguments.gradientScale = 0.5
                    arguments.streams = streams
                    arguments.losses = losses.baseAddress!
                    kernel(&arguments)
                  }
                }
              }
            }
          }
          #expect(gradient.isIntact, "\(level) \(option) \(columns)")
          return (losses, gradient.elements)
        }
        for labels: [Int32] in [[0, 1, 2, 3], [0, -1, 3, 0], [.max, .max, .max, .max]] {
          let labels = labels.map { min($0, Int32(columns - 1)) }
          let expected = evaluate(streams: false, gap: 0, labels: labels)
          for gap in 0..<16 {
            let streamed = evaluate(streams: true, gap: gap, labels: labels)
            #expect(streamed == expected, "\(level) \(Scalar.self) \(option), \(columns) columns, gap \(gap)")
          }
        }
      }
    }
  }
}
