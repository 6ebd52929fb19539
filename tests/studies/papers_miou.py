"""The mIoU of every row of both papers' tables, in their order."""

# mIoU in percent on PASCAL VOC 2012 val, copied from the papers by hand.
PAPERS: dict[str, list[float | None]] = {
    # arXiv:1706.05587, text: the first row is the last of Table 5
    "deeplabv3/cascade_with_aspp": [77.21, None, None, None],
    "deeplabv3/bootstrapping": [None, None],
    # arXiv:1706.05587, Table 1: output strides 8 to 256, ResNet-50 with block7
    "deeplabv3/table1": [75.18, 73.88, 70.06, 59.99, 42.34, 20.29],
    # arXiv:1706.05587, Table 2: block4 to block7, ResNet-50, then ResNet-101
    "deeplabv3/table2": [
        *(64.81, 72.14, 74.29, 73.88),
        *(68.39, 73.21, 75.34, 75.76),
    ],
    # arXiv:1706.05587, Table 3: block4 to block7, for each multi-grid
    "deeplabv3/table3": [
        *(68.39, 73.21, 75.34, 75.76),
        *(70.23, 75.67, 76.09, 76.66),
        *(73.14, 75.78, 75.96, 76.11),
        *(73.45, 75.74, 75.85, 76.02),
        *(71.45, 74.30, 74.70, 74.62),
    ],
    # arXiv:1706.05587, Table 4: from top to bottom
    "deeplabv3/table4": [
        *(76.66, 78.05, 78.93, 79.35),
    ],
    # arXiv:1706.05587, Table 5: from top to bottom
    "deeplabv3/table5": [
        *(75.36, 75.93, 76.58, 76.46, 77.21),
    ],
    # arXiv:1706.05587, Table 6: from top to bottom
    "deeplabv3/table6": [
        *(77.21, 78.51, 79.45, 79.77, 82.70),
    ],
    # arXiv:1706.05587, Table 7: from top to bottom
    "deeplabv3/table7": [
        *(79.10, 79.30, 79.70, 80.20, 81.40, 81.80, 82.70, 83.10),
        *(83.60, 84.20, 84.90, 85.40, 86.30, 86.60, 86.80, 85.70),
        *(86.90,),
    ],
    # arXiv:1706.05587, Table 8: from top to bottom
    "deeplabv3/table8": [
        *(77.21, 75.95, 76.01, 67.22),
    ],
    # arXiv:1706.05587, Table 9: from top to bottom
    "deeplabv3/table9": [
        *(64.43, 75.76, 76.49, 77.21),
    ],
    # arXiv:1706.05587, Table 10: from top to bottom
    "deeplabv3/table10": [
        *(74.45, 77.21, 75.90, 75.62, 78.51, 75.75),
    ],
    # arXiv:1706.05587, Table 11: from top to bottom
    "deeplabv3/table11": [
        *(77.21, 77.15, 76.79, 77.02, 77.18, 76.69),
    ],
    # arXiv:1706.05587, Table 12: from top to bottom
    "deeplabv3/table12": [
        *(77.23, 77.82, 79.06, 79.30),
    ],
    # arXiv:1706.05587, Table 13: from top to bottom
    "deeplabv3/table13": [
        *(70.40, 71.10, 71.20, 71.60, 71.80, 71.80, 73.60, 74.10),
        *(74.30, 75.40, 77.30, 78.10, 79.20, 80.10, 80.50, 80.60),
        *(81.20, 81.30),
    ],
    # arXiv:1802.02611, Table 2: from top to bottom
    "deeplabv3plus/table2": [
        *(78.21, 78.85, 78.02, 77.25, 78.07, 78.61),
    ],
    # arXiv:1802.02611, Table 6: from top to bottom
    "deeplabv3plus/table6": [
        *(82.70, 83.10, 83.60, 84.20, 84.90, 85.40, 86.30, 86.60),
        *(86.80, 85.70, 86.90, 87.80, 89.00),
    ],
    # arXiv:1802.02611, Table 7a: from top to bottom
    "deeplabv3plus/table7a": [
        *(77.33, 78.79, 79.14, 79.55),
    ],
    # arXiv:1802.02611, Table 7b: from top to bottom
    "deeplabv3plus/table7b": [
        *(80.60, 81.20, 82.00, 81.30, 82.10),
    ],
    # arXiv:1802.02611, Table 1: 8 to 64 channels of the decoder's 1x1 convolution, ResNet-101
    "deeplabv3plus/table1": [77.61, 77.92, 78.16, 78.21, 77.94],
    # arXiv:1802.02611, Table 3: ResNet-101, from top to bottom
    "deeplabv3plus/table3": [
        *(77.21, 78.51, 79.45, 79.77),
        *(78.85, 80.09, 80.22, 79.35, 80.43, 80.57),
        *(75.43, 77.37, 77.80, 77.92),
    ],
    # arXiv:1802.02611, Table 5: Xception-65, from top to bottom
    "deeplabv3plus/table5": [
        *(79.17, 80.57, 80.79, 79.64, 81.15, 81.34),
        *(79.93, 81.38, 81.44, 80.22, 81.60, 81.63),
        *(79.79, 81.21, 80.02, 81.39),
        *(82.20, 83.34, 82.45, 83.58),
        *(83.03, 84.22, 83.39, 84.56),
    ],
}
