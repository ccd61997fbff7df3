/// One utterance of connectionist temporal classification: its frames, its labels, and what is wanted.
package struct CTCArguments<Scalar: KernelScalar> {
  /// Frame `t` starts at `t * inputStride`.
  package var input: UnsafePointer<Scalar>
  package var inputStride: Int
  /// Frame `t` starts at `t * gradientStride`; may be the memory of `input`.
  package var gradient: UnsafeMutablePointer<Scalar>?
  package var gradientStride: Int
  package var frames: Int
  package var columns: Int
  package var labels: UnsafePointer<Int32>
  package var labelCount: Int
  package var blank: Int
  /// Whether the input is log-probabilities, so that no softmax is taken.
  package var isNormalized: Bool
  /// Whether the gradient bypasses the cache.
  package var streams: Bool
  /// What derivatives are multiplied by.
  package var scale: Scalar
  /// `CTCWorkspace.bytes` bytes aligned to 64.
  package var workspace: UnsafeMutableRawPointer

  /// Out: what the fields below mean.
  package var outcome = CTCOutcome.finite
  /// Out: P = `probability` · 2^`probabilityExponent` is the sum over all alignments of the products of the
  /// emissions, each relative to a reference of its frame.
  package var probability = 1.0
  package var probabilityExponent = 0.0
  /// Out: the product of the frames' normalisers is `normalizer` · 2^`normalizerExponent` · e^`offset`, and
  /// the loss is the logarithm of its ratio to P.
  package var normalizer = 1.0
  package var normalizerExponent = 0.0
  package var offset = 0.0
  /// Out: whether the recursion over exponents of its own was needed.
  package var isWide = false

  package init(
    input: UnsafePointer<Scalar>, inputStride: Int, gradient: UnsafeMutablePointer<Scalar>?,
    gradientStride: Int, frames: Int, columns: Int, labels: UnsafePointer<Int32>, labelCount: Int,
    blank: Int, isNormalized: Bool, streams: Bool, scale: Scalar, workspace: UnsafeMutableRawPointer
  ) {
    self.input = input
    self.inputStride = inputStride
    self.gradient = gradient
    self.gradientStride = gradientStride
    self.frames = frames
    self.columns = columns
    self.labels = labels
    self.labelCount = labelCount
    self.blank = blank
    self.isNormalized = isNormalized
    self.streams = streams
    self.scale = scale
    self.workspace = workspace
  }
}

/// What became of an utterance.
package enum CTCOutcome: Sendable {
  /// A loss and, if asked for, its gradient.
  case finite
  /// No alignment has a probability above 0; the gradient is not usable.
  case impossible
  /// A frame holds NaN, +∞ or nothing but −∞; the gradient is not usable.
  case undefined
}

/// Where one utterance's intermediate results lie in the scratch memory of its worker: O(frames · labels), and
/// O(frames · classes) more where there is a table.
///
/// States are split into blanks 0…L and labels 0…L−1, label i between blanks i and i + 1; arrays over either
/// have `width` elements, of which those past the end are padding.
package struct CTCWorkspace {
  /// L + 1 rounded up to whole vectors of either scalar type.
  package let width: Int
  /// Emissions of the labels, a row of `width` scalars for each frame and for as many more as fill a vector of
  /// frames; then the posteriors of the labels.
  package let emissions: Int
  /// Emission of the blank in each frame, in float64; then its posterior.
  package let blankEmissions: Int
  /// The logarithm of what the emissions of each frame are relative to, in float64.
  package let frameOffsets: Int
  /// The sum of each frame's exponentials, where there is a table.
  package let frameSums: Int
  /// Inputs at the labels and then the blank, of one frame.
  package let inputs: Int
  /// Forward variables of the labels: `frames` × `width` float64, in the wide recursion with as many exponents.
  package let forward: Int
  /// Binary exponents of the forward variables in each frame, in float64.
  package let exponents: Int
  /// Eight rows of `width` + 8 float64.
  package let rows: Int
  /// Two rows of the gradient of `rowCopyWidth` elements, or a square of vectors.
  package let rowCopy: Int
  package let rowCopyWidth: Int
  /// What waits of a gradient's row: ``PartialLineMemory/count`` elements.
  package let partialLine: Int
  /// A square of vectors: the classes that do not fill a vector, of as many frames as a vector has lanes.
  package let tableRows: Int
  /// Exponentials of every frame where classes are at most `largestTable` and logits are read: for each vector of
  /// frames, `tableWidth` vectors, one a class.
  package let table: Int
  /// The number of classes rounded up to whole vectors where there is a table, else 0.
  package let tableWidth: Int
  package let bytes: Int

  /// Up to this many classes, frames lie in the lanes of vectors and their exponentials are kept for the
  /// gradient. Beyond, each frame is read whole only once, when its gradient is written.
  private static var largestTable: Int { 128 }

  /// - Parameters:
  ///   - scalarBytes: The size of the input's elements.
  ///   - hasTable: Whether exponentials are kept if classes are few: for losses of logits.
  package init(frames: Int, labels: Int, columns: Int, scalarBytes: Int, hasTable: Bool) {
    width = (labels + 16) & ~15
    tableWidth = hasTable && columns <= Self.largestTable ? (columns + 15) & ~15 : 0
    var end = 0
    func reserve(_ count: Int, bytes: Int) -> Int {
      let start = end
      end += (count * bytes + 63) & ~63
      return start
    }
    let wholeFrames = (frames + 15) & ~15
    emissions = reserve(wholeFrames * width, bytes: scalarBytes)
    blankEmissions = reserve(wholeFrames, bytes: 8)
    frameOffsets = reserve(wholeFrames, bytes: 8)
    frameSums = reserve(tableWidth > 0 ? wholeFrames : 0, bytes: scalarBytes)
    inputs = reserve(width + 16, bytes: scalarBytes)
    forward = reserve(2 * frames * width, bytes: 8)
    exponents = reserve(frames, bytes: 8)
    rows = reserve(8 * (width + 8), bytes: 8)
    rowCopyWidth = (columns + 31) & ~15
    rowCopy = reserve(max(2 * rowCopyWidth, 16 * 16), bytes: scalarBytes)
    partialLine = reserve(PartialLineMemory.count, bytes: scalarBytes)
    tableRows = reserve(tableWidth > 0 ? 16 * 16 : 0, bytes: scalarBytes)
    table = reserve(wholeFrames * tableWidth, bytes: scalarBytes)
    bytes = end
  }
}

/// The kernels of connectionist temporal classification.
package struct CTCKernels<Scalar: KernelScalar>: Sendable {
  /// Loss and gradient of one utterance that has at least one frame and enough of them for its labels.
  package let evaluate: @Sendable (inout CTCArguments<Scalar>) -> Void
  /// The most probable alignment of such an utterance: `path` receives the state of every frame, 2i for
  /// blank i and 2i + 1 for label i; `probability` is then the logarithm of its product of emissions.
  package let align:
    @Sendable (_ arguments: inout CTCArguments<Scalar>, _ path: UnsafeMutablePointer<Int32>) -> Void
  /// The first of the largest elements of a row; 0 where all are NaN.
  package let indexOfLargest: @Sendable (_ row: UnsafePointer<Scalar>, _ count: Int) -> Int

  package init(
    evaluate: @escaping @Sendable (inout CTCArguments<Scalar>) -> Void,
    align: @escaping @Sendable (inout CTCArguments<Scalar>, UnsafeMutablePointer<Int32>) -> Void,
    indexOfLargest: @escaping @Sendable (UnsafePointer<Scalar>, Int) -> Int
  ) {
    self.evaluate = evaluate
    self.align = align
    self.indexOfLargest = indexOfLargest
  }
}
