import BatchLossFormulas
import BatchLossKernelInterface
import Glibc

/// What an utterance says by the most probable class of every frame.
public struct CTCDecoding: Hashable, Sendable {
  /// The labels, equal neighbours merged and blanks dropped.
  public let labels: [Int]
  /// The frame at which each label begins.
  public let frames: [Int]
}

/// The most probable alignment of a target with its frames.
public struct CTCAlignment: Hashable, Sendable {
  /// The class of every frame: a label or the blank.
  public let classes: [Int]
  /// The frames of every label of the target; between them are blanks.
  public let ranges: [Range<Int>]
  /// The logarithm of the alignment's probability, in nats; at most the negative of the loss.
  public let logProbability: Double
}

extension CTCLoss {
  /// Best-path decoding: the most probable class of every frame, equal neighbours merged, blanks dropped.
  ///
  /// Of classes that tie, the one of lowest index is taken; NaN never is, unless there is nothing else in a
  /// frame, which then counts as class 0. This is the most probable alignment, not always the most probable
  /// labelling.
  /// - Parameters:
  ///   - logits: The frames of all utterances as rows; log-probabilities do as well.
  ///   - batch: The number of utterances.
  ///   - inputLengths: How many frames of each utterance count; all of them when nil.
  ///   - engine: Workers.
  /// - Throws: ``BatchLossError`` for shapes and lengths that do not match and a blank that is no class.
  /// - Complexity: O(frames · classes).
  public func decodeBestPath<Scalar: LossScalar>(
    _ logits: borrowing MatrixView<Scalar>, batch: Int, inputLengths: Span<Int>? = nil,
    engine: Engine = .shared
  ) throws(BatchLossError) -> [CTCDecoding] {
    let scratch = engine.borrowWorkspace()
    defer { engine.giveBack(scratch) }
    let noLabels: [Int32] = []
    let utterances = try CTCBatch(
      targets: CTCTargets(padded: noLabels.span, batch: batch), inputLengths: inputLengths,
      rows: logits.rows, columns: logits.columns, loss: self, scratch: scratch)
    let kernel = try KernelSelection.current.table(Scalar.self).ctc.indexOfLargest
    let memory = logits.memory
    return results(of: utterances, engine) { utterance, _ in
      var (labels, frames): ([Int], [Int]) = ([], [])
      var previous = blank
      for frame in 0..<utterances.frames[utterance] {
        let row = memory.pointer(utterances.row(utterance, frame, layout), 0)
        let best = kernel(UnsafePointer(row), memory.columns)
        if best != blank, best != previous || frame == 0 {
          labels.append(best)
          frames.append(frame)
        }
        previous = best
      }
      return CTCDecoding(labels: labels, frames: frames)
    }
  }

  /// The most probable alignment of each target (Viterbi), for segmentation and forced alignment.
  ///
  /// Where alignments tie, the target ends as early as it can. An utterance has no alignment when it is too
  /// short for its target or when all alignments have probability 0 or NaN.
  /// - Parameters: As of `evaluate`.
  /// - Throws: As `evaluate`.
  /// - Complexity: O(frames · (classes + labels)) time, O(frames · labels) memory a worker.
  public func bestAlignments<Scalar: LossScalar, Label: FixedWidthInteger>(
    _ logits: borrowing MatrixView<Scalar>, targets: borrowing CTCTargets<Label>,
    inputLengths: Span<Int>? = nil, engine: Engine = .shared
  ) throws(BatchLossError) -> [CTCAlignment?] {
    let scratch = engine.borrowWorkspace()
    defer { engine.giveBack(scratch) }
    let utterances = try CTCBatch(
      targets: targets, inputLengths: inputLengths, rows: logits.rows, columns: logits.columns, loss: self,
      scratch: scratch)
    let kernel = try KernelSelection.current.table(Scalar.self).ctc.align
    let memory = logits.memory
    let kernelBytes = utterances.workspaceBytes(Scalar.self, hasTable: false)
    return results(of: utterances, engine) { utterance, workspace in
      guard utterances.isFeasible(utterance) else { return nil }
      let frames = utterances.frames[utterance]
      guard frames > 0 else { return CTCAlignment(classes: [], ranges: [], logProbability: 0) }
      let pathBytes = (4 * frames + 63) & ~63
      let bytes = workspace.buffer(of: UInt8.self, count: kernelBytes + 4 * utterances.time + 64)
      let path = UnsafeMutableRawPointer(bytes).bindMemory(to: Int32.self, capacity: frames)
      var arguments = utterances.arguments(of: utterance, memory, self, workspace: bytes + pathBytes)
      kernel(&arguments, path)
      guard arguments.outcome == .finite else { return nil }
      let normalizer = log(arguments.normalizer) + arguments.normalizerExponent * 0x1.62e42fefa39efp-1
      return alignment(
        UnsafeBufferPointer(start: path, count: frames), arguments.labels, arguments.labelCount,
        logProbability: arguments.probability - normalizer)
    }
  }

  private func alignment(
    _ path: UnsafeBufferPointer<Int32>, _ labels: UnsafePointer<Int32>, _ count: Int, logProbability: Double
  ) -> CTCAlignment {
    var ranges: [Range<Int>] = []
    ranges.reserveCapacity(count)
    let classes = path.indices.map { frame in
      let state = Int(path[frame])
      guard state & 1 == 1 else { return blank }
      if ranges.count <= state >> 1 {
        ranges.append(frame..<frame + 1)
      } else {
        ranges[state >> 1] = ranges[state >> 1].lowerBound..<frame + 1
      }
      return Int(labels[state >> 1])
    }
    return CTCAlignment(classes: classes, ranges: ranges, logProbability: logProbability)
  }

  /// One result for every utterance, in parallel.
  private func results<Result>(
    of utterances: CTCBatch, _ engine: Engine, _ body: (_ utterance: Int, _ workspace: Workspace) -> Result
  ) -> [Result] {
    [Result](unsafeUninitializedCapacity: utterances.count) { buffer, count in
      let start = buffer.baseAddress
      engine.forEachBlock(utterances.count, inOrder: true) { block, workspace in
        let utterance = Int(utterances.order[block])
        (start! + utterance).initialize(to: body(utterance, workspace))
      }
      count = utterances.count
    }
  }
}
