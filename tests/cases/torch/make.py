"""Makes the files beside it with PyTorch: state dictionaries in both formats of `torch.save`, and a pickled vocabulary."""

import pickle

import numpy
import torch


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(1, 4, num_layers=2, batch_first=True)
        self.fc = torch.nn.Linear(4, 2)

    def forward(self, inputs):
        return self.fc(self.lstm(inputs)[0])


class Vocabulary:
    """As in the tutorial that the papers' captioning code began from."""

    def __init__(self, words):
        self.word2idx = {word: index for index, word in enumerate(words)}
        self.idx2word = {index: word for index, word in enumerate(words)}
        self.idx = len(words)


torch.manual_seed(1)
network = Network()
checkpoint = {"epoch": 3, "state_dict": network.state_dict(), "name": "a checkpoint"}
torch.save(checkpoint, "lstm.pt")
torch.save(network.state_dict(), "lstm-legacy.pth", _use_new_zipfile_serialization=False)
inputs = torch.randn(3, 10, 1)
with torch.no_grad():
    outputs = network(inputs)
numpy.save("inputs.npy", inputs.numpy())
numpy.save("outputs.npy", outputs.numpy())
words = ["<pad>", "<start>", "<end>", "<unk>", "a", "dog", "café"]
pickle.dump(Vocabulary(words), open("vocab.pkl", "wb"), protocol=4)
