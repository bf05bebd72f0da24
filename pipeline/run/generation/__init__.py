"""What a trained model makes itself: images from noise, sequences token by token.

The loops are here, and draw with the core's generator; a backend calls the model (`TrainedModel.call`).
"""
