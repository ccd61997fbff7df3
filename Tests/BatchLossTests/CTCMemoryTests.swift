import BatchLoss
import BatchLossKernelInterface
import BatchLossTestSupport
import Testing

// What CTC reads and writes: guarded memory about logits, labels, losses and gradient, and how much scratch memory an
// utterance takes. Results have the bits of those in ordinary memory. (That kernels stay within their scratch memory,
// `CTCReferenceTests.everyInstructionSet` shows.)

@Suite struct CTCMemoryTests {
  /// The last row ends at a page that may not be touched, or at memory that must not change.
  @Test(arguments: CTCLoss.Layout.allCases, [1, 5, 16, 29, 128, 130])
  func nothingElseIsTouched(layout: CTCLoss.Layout, classes: Int) throws {
    var generator = SplitMix(state: UInt64(classes))
    for (time, gap) in [(1, 0), (9, 3), (16, 0), (20, 0), (20, 3), (33, 0), (33, 2)] {
      for isRagged in [false, true] {
        let sample = CTCSample.random(
          batch: 3, time: time, classes: classes, labels: time / 4, ragged: isRagged, using: &generator)
        for input in CTCLoss.Input.allCases {
          let run = CTCRun(layout: layout, input: input, padding: gap)
          try check(sample, run, Float.self, .end)
          try check(sample, run, Float.self, .line)
          try check(sample, run, Double.self, .end)
        }
      }
    }
  }

  private func check<Scalar: LossScalar>(
    _ sample: CTCSample, _ run: CTCRun, _: Scalar.Type, _ placement: GuardedBuffer<Scalar>.Placement
  ) throws {
    let isTimeMajor = run.layout == .timeMajor
    let (rows, columns) = (sample.batch * sample.time, sample.classes)
    let elements = (isTimeMajor ? sample.timeMajor : sample.logits).map { Scalar($0) }
    let x = GuardedBuffer(rows: rows, columns: columns, gap: run.padding, elements, placement: placement)
    let g = GuardedBuffer<Scalar>(rows: rows, columns: columns, gap: run.padding, placement: placement)
    let l = GuardedBuffer<Scalar>(rows: 1, columns: sample.batch, placement: placement)
    // Labels as the bits of floats.
    let t = GuardedBuffer<Float>(
      rows: 1, columns: sample.padded.count,
      sample.padded.map { Float(bitPattern: UInt32(bitPattern: Int32($0))) })
    let (logits, gradient, losses) = (x.readOnlyMemory, g.memory, l.memory)
    let labels = UnsafeBufferPointer(
      start: UnsafeRawPointer(t.base).assumingMemoryBound(to: Int32.self), count: sample.padded.count)
    let (lengths, frames) = (sample.targetLengths, sample.inputLengths)
    let loss = try CTCLoss(blank: sample.blank, layout: run.layout, input: run.input)
    let cost = try loss.evaluate(
      MatrixView(unsafeElements: logits, rows: rows, columns: columns, stride: x.stride),
      targets: CTCTargets(padded: labels.span, batch: sample.batch, lengths: lengths.span),
      inputLengths: frames.span, reduction: .sum, losses: losses.mutableSpan,
      gradient: MutableMatrixView(unsafeElements: gradient, rows: rows, columns: columns, stride: g.stride))

    let expected = try run(sample, Scalar.self)
    var derivatives = sample
    derivatives.logits = expected.gradient.map { Double($0) }
    let ordered = isTimeMajor ? derivatives.timeMajor : derivatives.logits
    let note: Comment = "\(sample.time) frames of \(columns), \(run.layout), \(run.input), gap \(run.padding)"
    #expect(cost == expected.cost && l.elements == expected.losses, note)
    #expect(g.elements.map { Double($0) } == ordered, note)
    #expect(x.isIntact && g.isIntact && l.isIntact && t.isIntact, note)
  }

  /// A vector of frames has a row for each class only up to 128 classes and only where logits are read.
  @Test(arguments: [4, 8]) func scratchMemory(scalarBytes: Int) {
    func layout(_ columns: Int, hasTable: Bool) -> CTCWorkspace {
      CTCWorkspace(frames: 1600, labels: 15, columns: columns, scalarBytes: scalarBytes, hasTable: hasTable)
    }
    let table = layout(128, hasTable: true).bytes - layout(128, hasTable: false).bytes
    #expect(table == (1600 * 128 + 1600 + 256) * scalarBytes, "exponentials, their sums, one square")
    #expect(layout(128, hasTable: true).tableWidth == 128 && layout(128, hasTable: false).tableWidth == 0)
    #expect(layout(129, hasTable: true).bytes == layout(129, hasTable: false).bytes)
    // Without a table: two float64 and an emission for each of 16 states and frame, four float64 a frame, a few rows.
    let bytes = layout(129, hasTable: true).bytes
    #expect(bytes < 1600 * (16 * (16 + scalarBytes) + 32) + 8192)
  }
}
