"""Generation with a trained model: images from noise, sequences token by token.

The loops are here, and draw with the core's generator; a backend calls the model (`TrainedModel.call`).
"""
