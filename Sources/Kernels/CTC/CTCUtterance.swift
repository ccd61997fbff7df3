import BatchLossFormulas
import BatchLossKernelInterface

// Connectionist temporal classification of one utterance: emissions and their softmax (CTCEmissions), the
// recursion over scaled float64 (CTCScaledRecursion) and, where its certificate fails, the one in which every
// state has an exponent of its own (CTCWideRecursion), then the posteriors taken out of the gradient rows.

/// The kernels over one vector type.
@inline(__always)
func ctcKernels<V: KernelVector>(as vector: V.Type) -> CTCKernels<V.Lane> {
  CTCKernels(
    evaluate: { ctcEvaluate(&$0, as: vector) }, align: { ctcAlign(&$0, path: $1, as: vector) },
    indexOfLargest: { ctcIndexOfLargest($0, $1, as: vector) })
}

/// Loss and, if asked for, gradient of one utterance of at least one frame and enough of them for its labels.
@inline(__always)
private func ctcEvaluate<V: KernelVector>(_ arguments: inout CTCArguments<V.Lane>, as: V.Type) {
  var isInPlace = false
  if let gradient = arguments.gradient { isInPlace = UnsafePointer(gradient) == arguments.input }
  let workspace = CTCWorkspace(
    frames: arguments.frames, labels: arguments.labelCount, columns: arguments.columns,
    savesInputs: isInPlace)
  let isNarrow =
    arguments.isNormalized
    ? ctcGivenEmissions(&arguments, workspace, isInPlace, as: V.self)
    : ctcSoftmaxEmissions(&arguments, workspace, isInPlace, as: V.self)
  guard arguments.outcome == .finite else { return }
  ctcSkips(arguments, workspace)
  if !isNarrow || !ctcScaledRecursion(&arguments, workspace, as: V.self) {
    arguments.isWide = true
    ctcWideRecursion(&arguments, workspace, isInPlace, as: V.self)
  }
  guard arguments.outcome == .finite, let gradient = arguments.gradient else { return }
  ctcSubtractPosteriors(arguments, workspace, gradient)
}

/// Marks with 1 the labels that may follow their predecessor without a blank between, with 0 all others.
@inline(never)
func ctcSkips<Lane: KernelScalar>(_ arguments: CTCArguments<Lane>, _ workspace: CTCWorkspace) {
  let skips = ctcRow(0, arguments, workspace)
  for index in 0..<workspace.width + 8 {
    let isAllowed =
      index > 0 && index < arguments.labelCount && arguments.labels[index] != arguments.labels[index - 1]
    skips[index] = isAllowed ? 1 : 0
  }
}

/// One of the float64 rows over states.
@inline(__always)
func ctcRow<Lane: KernelScalar>(
  _ row: Int, _ arguments: CTCArguments<Lane>, _ workspace: CTCWorkspace
) -> UnsafeMutablePointer<Double> {
  (arguments.workspace + workspace.rows).assumingMemoryBound(to: Double.self) + row * (workspace.width + 8)
}

/// Subtracts the posteriors of every frame from its gradient row. A label that occurs several times is
/// subtracted as often, in the order of the target.
@inline(never)
private func ctcSubtractPosteriors<Lane: KernelScalar>(
  _ arguments: CTCArguments<Lane>, _ workspace: CTCWorkspace, _ gradient: UnsafeMutablePointer<Lane>
) {
  let posteriors = (arguments.workspace + workspace.emissions).assumingMemoryBound(to: Lane.self)
  let blanks = (arguments.workspace + workspace.blankEmissions).assumingMemoryBound(to: Double.self)
  let labels = arguments.labels
  for frame in 0..<arguments.frames {
    let row = gradient + frame * arguments.gradientStride
    let posterior = posteriors + frame * workspace.width
    for index in 0..<arguments.labelCount { row[Int(labels[index])] -= posterior[index] }
    row[arguments.blank] -= Lane(blanks[frame])
  }
}
