// Command mongo uses MongoDB over iWARP.
//
//	 client, err := mongo.Connect(options.Client().ApplyURI(os.Args[1]).
//	+	SetDialer(new(iwarp.Dialer)))
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rdmanet/iwarp"
)

func main() {
	ctx := context.Background()
	client, err := mongo.Connect(options.Client().ApplyURI(os.Args[1]).SetDialer(new(iwarp.Dialer)))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Disconnect(ctx) }()
	greetings := client.Database("test").Collection("greetings")
	if _, err := greetings.InsertOne(ctx, bson.M{"text": "hello from mongo"}); err != nil {
		log.Fatal(err)
	}
	var found bson.M
	err = greetings.FindOne(ctx, bson.M{}).Decode(&found)
	fmt.Println(found["text"], err)
}
